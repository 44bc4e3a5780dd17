package options

// Option is one option as its table has it: for checks, and for documentation.
type Option struct {
	Name    string // one that ends in a dot begins the names of several
	Type    string // of its value, in words
	Default string // "" for none
	Doc     string // one sentence or more, Markdown
}
