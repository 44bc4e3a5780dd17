package docs_test

// sinks are pages of lists of collectors, and of configurations of theirs, which
// need nothing.
var sinks = page{}

// journal is about the host's own.
var journal = page{
	"": {given: func(*world) {}},
}
