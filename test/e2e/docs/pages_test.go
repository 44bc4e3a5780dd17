package docs_test

// pages has what each page assumes and promises. One that has nothing to type
// needs none.
var pages = map[string]page{
	"README.md":          readme,
	"docs/quickstart.md": quickstart,
}
