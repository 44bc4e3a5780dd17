package process

import (
	"bytes"
	"regexp"
)

// language is a set of languages whose stack traces are known.
type language uint8

const (
	java language = 1 << iota
	python
	golang
	node
	anyLanguage = java | python | golang | node
)

// place is where in a trace a line is.
type place uint8

const (
	outside   place = iota
	someplace       // in a record whose first line is told by an expression
	// A line that may begin a trace. It is one only if the next line says so.
	header
	frames // of Java and Node
	object // what Node shows of an error besides
	after  // a blank line behind it
	source // the line of Node's that says where in a file
	code
	caret
	blank // before the header

	pyFrames
	pyGroup // of exceptions
	pyError
	pyGap
	pyChain

	goHead
	goGap
	goFrames

	// uncaught is added to places of a trace that Node died with: it has its
	// version behind it.
	uncaught place = 0x40
)

// step says where the next line is, and whether it goes on with the trace that
// the line before is in. The rules hold for what the runtimes print; what they
// do not know ends a trace and is a record of its own.
func (l language) step(at place, line []byte) (next place, joins bool) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if at != outside {
		if next = l.goOn(at, line); next != outside {
			return next, true
		}
	}
	return l.begin(line), false
}

func (l language) goOn(at place, line []byte) place {
	if at&uncaught != 0 {
		next := l.frameGoesOn(at&^uncaught, line)
		switch {
		case next != outside:
			return next | uncaught
		case at&^uncaught == frames && len(line) == 0:
			return after | uncaught
		case at&^uncaught == after && bytes.HasPrefix(line, nodeSays):
			return someEnd
		}
		return outside
	}
	switch {
	case at >= goHead:
		return goGoesOn(at, line)
	case at >= pyFrames:
		return pythonGoesOn(at, line)
	case at == header || at == frames || at == object:
		return l.frameGoesOn(at, line)
	}
	return nodeSource(at, line)
}

func (l language) begin(line []byte) place {
	if l&python != 0 {
		if p := pythonBegins(line); p != outside {
			return p
		}
	}
	if l&golang != 0 {
		if p := goBegins(line); p != outside {
			return p
		}
	}
	if l&node != 0 && isSource(line) {
		return source
	}
	if l&(java|node) != 0 {
		switch {
		case isFrame(line):
			return frames
		case mayBeHeader(line):
			return header
		}
	}
	return outside
}

// Java, and Node, which writes its frames alike.

var (
	atWord   = []byte("at ")
	dots     = []byte("...")
	caused   = []byte("Caused by: ")
	suppress = []byte("Suppressed: ")
	circular = []byte("[CIRCULAR REFERENCE")
	inThread = []byte("Exception in thread ")
	nodeSays = []byte("Node.js v")
	errWords = [][]byte{[]byte("Exception"), []byte("Error"), []byte("Throwable")}
)

func isFrame(line []byte) bool {
	text := trimIndent(line)
	return len(text) < len(line) && bytes.HasPrefix(text, atWord)
}

// mayBeHeader holds for what can stand before the first frame: an error's class
// and message, at the line's end or all of it.
func mayBeHeader(line []byte) bool {
	for _, w := range errWords {
		if bytes.Contains(line, w) {
			return true
		}
	}
	n := 0
	for n < len(line) && isWord(line[n]) {
		n++
	}
	return n > 0 && (n == len(line) || line[n] == ':')
}

// isWord holds for what names of classes consist of.
func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$' || c == '.'
}

func (l language) frameGoesOn(at place, line []byte) place {
	text := trimIndent(line)
	indented := len(text) < len(line)
	switch {
	case at == after:
		return outside
	case at == object:
		if indented {
			return object
		}
		if bytes.HasPrefix(line, []byte("}")) || bytes.HasPrefix(line, []byte("]")) {
			return frames
		}
		return outside
	case isFrame(line):
		if l&node != 0 && bytes.HasSuffix(line, []byte(" {")) {
			return object
		}
		return frames
	case bytes.HasPrefix(text, suppress) || bytes.HasPrefix(text, circular) || bytes.HasPrefix(text, caused):
		return frames
	case at == frames && indented && bytes.HasPrefix(text, dots):
		return frames
	}
	return outside
}

// someEnd is the end of a trace: nothing goes on behind it.
const someEnd = someplace

var sourceLine = regexp.MustCompile(`^((/|file://|node:|[A-Za-z]:\\|evalmachine)[^\s].*|\[(eval|stdin)\]):\d+$`)

func isSource(line []byte) bool {
	if n := len(line); n == 0 || line[n-1] < '0' || line[n-1] > '9' {
		return false
	}
	return sourceLine.Match(line)
}

// nodeSource is for what Node prints before an error that nobody caught: where
// in the source, the line, a mark below it, a blank line.
func nodeSource(at place, line []byte) place {
	text := trimIndent(line)
	switch {
	case at == source && len(text) > 0:
		return code
	case at == code && len(text) > 0 && len(bytes.Trim(text, "^")) == 0:
		return caret
	case at == caret && len(text) == 0:
		return blank
	case at == blank && len(text) > 0:
		return header | uncaught
	}
	return outside
}

// Python.

var (
	traceback = []byte("Traceback (most recent call last):")
	pyFile    = []byte(`  File "`)
	pyChains  = [][]byte{
		[]byte("During handling of the above exception, another exception occurred:"),
		[]byte("The above exception was the direct cause of the following exception:"),
	}
)

// pythonBegins: groups of exceptions are indented and have bars before them; an
// error of syntax has no head; threads name themselves first.
func pythonBegins(line []byte) place {
	switch {
	case bytes.HasPrefix(line, pyFile) || bytes.HasPrefix(line, inThread) && bytes.HasSuffix(line, []byte(":")):
		return pyFrames
	case isPyChain(line):
		return pyChain // of an error whose message had several lines
	case !bytes.HasSuffix(line, traceback):
		return outside
	}
	switch string(bytes.TrimLeft(line[:len(line)-len(traceback)], " |+")) {
	case "":
		return pyFrames
	case "Exception Group ":
		return pyGroup
	}
	return outside
}

func isPyChain(line []byte) bool {
	for _, c := range pyChains {
		if bytes.HasSuffix(line, c) && len(bytes.Trim(line[:len(line)-len(c)], " |")) == 0 {
			return true
		}
	}
	return false
}

func pythonGoesOn(at place, line []byte) place {
	text := trimIndent(line)
	indented := len(text) < len(line)
	switch at {
	case pyFrames:
		switch {
		case indented && len(text) > 0:
			return pyFrames
		case bytes.HasSuffix(line, traceback):
			return pythonBegins(line)
		case len(text) > 0:
			return pyError
		}
	case pyGroup:
		if indented && len(text) > 0 {
			return pyGroup
		}
		if len(text) == 0 {
			return pyGap
		}
	case pyError:
		if indented && len(text) > 0 && pythonBegins(line) == outside {
			return pyError
		}
		if len(text) == 0 {
			return pyGap
		}
	case pyGap:
		if isPyChain(line) {
			return pyChain
		}
	case pyChain:
		if len(text) == 0 {
			return pyChain
		}
		if p := pythonBegins(line); p == pyFrames || p == pyGroup {
			return p
		}
	}
	return outside
}

// Go.

var (
	goStarts  = [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("runtime: "), []byte("SIGQUIT: "), []byte("unexpected fault address ")}
	goServing = []byte("http: panic serving ")
	goRoutine = []byte("goroutine ")
	goCreated = []byte("created by ")
	goExit    = []byte("exit status ")
	goSignal  = []byte("[signal ")
	goStack   = []byte("runtime stack:")
	goElided  = []byte(" frames elided...")
)

func goBegins(line []byte) place {
	if isGoroutine(line) {
		return goFrames
	}
	for _, p := range goStarts {
		if bytes.HasPrefix(line, p) {
			return goHead
		}
	}
	if bytes.Contains(line, goServing) {
		return goHead
	}
	return outside
}

// isGoroutine holds for `goroutine 7 [running]:` and what else can stand there.
func isGoroutine(line []byte) bool {
	return bytes.HasPrefix(line, goRoutine) && bytes.HasSuffix(line, []byte("]:"))
}

func goGoesOn(at place, line []byte) place {
	switch {
	case isGoroutine(line) || bytes.HasPrefix(line, goStack):
		return goFrames
	case len(line) == 0:
		return goGap
	case at == goGap:
		if bytes.HasPrefix(line, goExit) || bytes.HasPrefix(line, goSignal) {
			return goHead
		}
	case bytes.HasPrefix(line, goSignal), bytes.HasPrefix(line, goExit), line[0] == '\t':
		return at
	case at == goHead && goBegins(line) == goHead && !bytes.HasPrefix(line, goStarts[0]):
		return goHead
	case at == goFrames && isGoFrame(line):
		return goFrames
	}
	return outside
}

// isGoFrame: a function and its arguments, who began the goroutine, a gap, or a register.
func isGoFrame(line []byte) bool {
	if bytes.HasPrefix(line, goCreated) || bytes.HasSuffix(line, goElided) {
		return true
	}
	if open := bytes.IndexByte(line, '('); open > 0 {
		return line[len(line)-1] == ')' && bytes.IndexByte(line[:open], ' ') < 0
	}
	name, value, ok := bytes.Cut(line, []byte(" "))
	return ok && len(name) <= 6 && bytes.HasPrefix(bytes.TrimLeft(value, " "), []byte("0x"))
}

func trimIndent(line []byte) []byte { return bytes.TrimLeft(line, " \t") }
