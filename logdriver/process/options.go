package process

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/dockline/dockline/internal/options"
)

// Option is one option of a container, for those who list them all.
type Option struct {
	Name    string // one that ends in a dot begins the names of several
	Type    string // of its value
	Default string // "" for none
	Doc     string // one sentence or more
}

// Options are what Parse reads, in the order in which they are to be read about.
func Options() []Option {
	var all []Option
	for _, o := range table {
		all = append(all, o.Option)
	}
	return all
}

// Bounds of options.
const (
	minRecord       = 16 << 10 // as the engine cuts lines
	defaultRecord   = 1 << 20
	maxRecord       = 8 << 20
	minLine         = 64
	minTimeout      = 50 * time.Millisecond
	defaultTimeout  = time.Second
	maxTimeout      = time.Minute
	maxBurst        = 1_000_000
	maxInstructions = 500 // of one compiled expression
	maxPatterns     = 16  // of redact.NAME
)

type option struct {
	Option
	set func(s *Spec, value string) error
}

var table = []option{
	{Option{"max-record", "size", "1m", "How long a record may be whose chunks or lines are joined: from 16k to 8m. A longer one is sent in pieces, each but the last marked as cut, and is not taken apart. `docker logs` joins up to 1m."},
		func(s *Spec, v string) (err error) { s.MaxRecord, err = size(v, minRecord, maxRecord); return err }},
	{Option{"multiline", "list", "", "Whose stack traces become one record: `java`, `python`, `go`, `node`, several parted by commas, or `auto` for all. A trace begins with its own first line; what was logged before it is a record of its own."},
		func(s *Spec, v string) error { return s.setTraces(v) }},
	{Option{"multiline-start", "regexp", "", "The lines that begin a record; those that it does not match become part of the one before. The first 1 KiB of a line is looked at."},
		func(s *Spec, v string) error { return s.setStart(v) }},
	{Option{"multiline-timeout", "duration", "1s", "How long a record waits for its next line: from 50ms to 1m."},
		func(s *Spec, v string) (err error) {
			s.multi.timeout, err = duration(v, minTimeout, maxTimeout)
			return err
		}},
	{Option{"include", "regexp", "", "Only records that it matches are sent. The first 16 KiB of a record is looked at (less with an expression of more than 64 instructions), before anything else is done to it."},
		func(s *Spec, v string) (err error) { s.include, err = newFilter(v); return err }},
	{Option{"exclude", "regexp", "", "Records that it matches are not sent; it comes after `include`."},
		func(s *Spec, v string) (err error) { s.exclude, err = newFilter(v); return err }},
	{Option{"rate", "number", "", "How many records are sent, `100` or `100/s`, `6000/m`, `1000/h`."},
		func(s *Spec, v string) error { return s.setRate(v) }},
	{Option{"burst", "number", "one second's, at least 1", "How many records may come at once before `rate` holds."},
		func(s *Spec, v string) (err error) { s.rate.burst, err = whole(v, 1, maxBurst); return err }},
	{Option{"rate-mode", "`drop` or `delay`", "drop", "`drop` leaves out what is over the rate, by the time at which it was written, and sends a record that says how many; `delay` lets it wait in the spool."},
		func(s *Spec, v string) error { return s.setRateMode(v) }},
	{Option{"parse", "`json`, `logfmt` or `auto`", "", "Takes lines apart: their values become fields, `level` and `time` (or what they are mostly called) the record's own, `message` or `msg` the line. A time more than a day from the engine's stays a field. Lines that are something else, or longer than 32 KiB, stay as they are."},
		func(s *Spec, v string) (err error) { s.parse, err = choice(v, parseModes); return err }},
	{Option{"parse-keep", "`true` or `false`", "false", "Sends the line as it was written, too, as the field `original`; what is redacted is hidden there as well."},
		func(s *Spec, v string) (err error) {
			s.keep, err = choice(v, map[string]bool{"true": true, "false": false})
			return err
		}},
	{Option{"redact", "list", "", "What is hidden, in lines and fields, and in the tag, the command and what else is attached: `bearer` (tokens behind Bearer and Basic, JWT, values of `authorization`, `access_token` and the like), `email`, `cloud-keys` (access keys of AWS, Google, DigitalOcean, secrets of AWS and Azure by their names), `url-passwords`, or `all`."},
		func(s *Spec, v string) error { return s.setPresets(v) }},
	{Option{"redact.", "regexp", "", "`redact.NAME=REGEX` hides what the expression matches, or its first group if it has one, and writes `[redacted:NAME]` in its place. What `parse` lifts out of a line is searched as `name=value`, too."}, nil},
	{Option{"utf8", "`pass`, `escape` or `replace`", "pass", "What becomes of bytes that are not UTF-8: sent as they are, as far as the protocol can; written as `\\xff`; or replaced by U+FFFD."},
		func(s *Spec, v string) (err error) { s.utf8, err = choice(v, utf8Modes); return err }},
	{Option{"max-line", "size", "", "How long a record's line may be when it is sent, at least 64: the rest is cut, and the line's end says how many bytes."},
		func(s *Spec, v string) (err error) { s.maxLine, err = size(v, minLine, maxRecord); return err }},
}

var (
	parseModes = map[string]parseMode{"json": parseJSON, "logfmt": parseLogfmt, "auto": parseAuto}
	utf8Modes  = map[string]utf8Mode{"pass": utf8Pass, "escape": utf8Escape, "replace": utf8Replace}
	languages  = map[string]language{"java": java, "python": python, "go": golang, "node": node, "auto": anyLanguage}
)

const redactFamily = "redact."

// Names returns the names of all options.
func Names() []string {
	var all []string
	for _, o := range table {
		all = append(all, o.Name)
	}
	return all
}

// needs says which options make no sense without another.
var needs = map[string][]string{
	"multiline-timeout": {"multiline", "multiline-start"},
	"burst":             {"rate"},
	"rate-mode":         {"rate"},
	"parse-keep":        {"parse"},
}

// Parse compiles what options say; nil where they ask for nothing. Keys that are not its own are left to others;
// an empty value is as none. Errors are *options.ValueError.
func Parse(what string, given map[string]string) (*Spec, error) {
	s := &Spec{MaxRecord: defaultRecord, multi: &multiline{timeout: defaultTimeout}, rate: &rate{}}
	for _, o := range table {
		v := given[o.Name]
		if v == "" || o.set == nil {
			continue
		}
		err := checkNeeds(o.Name, given)
		if err == nil {
			err = o.set(s, v)
		}
		if err != nil {
			return nil, &options.ValueError{What: what, Key: o.Name, Value: v, Err: err}
		}
	}
	if err := s.addPatterns(what, given); err != nil {
		return nil, err
	}
	if s.multi.max = s.MaxRecord; s.multi.start == nil && s.multi.traces == 0 {
		s.multi = nil
	}
	if s.rate.every == 0 {
		s.rate = nil
	}
	if s.idle() && s.MaxRecord == defaultRecord {
		return nil, nil
	}
	return s, nil
}

// Settle has what a container gives itself win over the defaults that it was
// merged with, where only one of two can be, and drops defaults that mean nothing
// without what it switched off.
func Settle(given, own map[string]string) {
	for a, b := range map[string]string{"multiline": "multiline-start", "multiline-start": "multiline"} {
		if own[a] != "" && own[b] == "" {
			delete(given, b)
		}
	}
	for name := range needs {
		if own[name] == "" && given[name] != "" && checkNeeds(name, given) != nil {
			delete(given, name)
		}
	}
}

func checkNeeds(name string, given map[string]string) error {
	others := needs[name]
	for _, o := range others {
		if given[o] != "" {
			return nil
		}
	}
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("means nothing without %s", strings.Join(others, " or "))
}

func (s *Spec) setTraces(v string) error {
	for name := range strings.SplitSeq(v, ",") {
		l, err := choice(strings.TrimSpace(name), languages)
		if err != nil {
			return err
		}
		s.multi.traces |= l
	}
	return nil
}

func (s *Spec) setStart(v string) (err error) {
	if s.multi.traces != 0 {
		return errors.New("multiline is given, too: only one of the two can be")
	}
	s.multi.start, s.multi.cost, err = compile(v)
	return err
}

func newFilter(v string) (*filter, error) {
	re, cost, err := compile(v)
	return &filter{re, cost}, err
}

// compile reads an expression, and says what it costs for each byte: the number
// of its instructions, which bounds the steps that RE2 takes.
func compile(v string) (re *regexp.Regexp, cost int, err error) {
	tree, err := syntax.Parse(v, syntax.Perl)
	if err != nil {
		return nil, 0, fmt.Errorf("not a regular expression (RE2): %w", err)
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, 0, fmt.Errorf("not a regular expression (RE2): %w", err)
	}
	if n := len(prog.Inst); n > maxInstructions {
		return nil, 0, fmt.Errorf("too costly: it compiles to %d instructions, and %d are allowed; repetitions such as {1,500} make many", n, maxInstructions)
	}
	re, err = regexp.Compile(v)
	return re, len(prog.Inst), err
}

func (s *Spec) setRate(v string) error {
	number, unit, given := strings.Cut(v, "/")
	if !given {
		unit = "s"
	}
	per, err := choice(unit, map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour})
	if err != nil {
		return fmt.Errorf("the unit: %w", err)
	}
	n, err := whole(number, 1, maxBurst)
	if err != nil {
		return err
	}
	s.rate.every, s.rate.said = per/time.Duration(n), v
	s.rate.burst = max(1, int(time.Second/s.rate.every))
	return nil
}

func (s *Spec) setRateMode(v string) (err error) {
	s.rate.delay, err = choice(v, map[string]bool{"drop": false, "delay": true})
	return err
}

func (s *Spec) setPresets(v string) error {
	all := presets()
	var names []string
	for name := range strings.SplitSeq(v, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "all":
			names = slices.AppendSeq(names, maps.Keys(all))
		case all[name] == nil:
			return notOneOf(name, append(slices.Collect(maps.Keys(all)), "all"))
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		s.addPreset(name, all[name])
	}
	return nil
}

func (s *Spec) addPreset(name string, finders []finder) {
	for _, f := range finders {
		s.secrets = append(s.secrets, redactor{find: f, mark: redacted(name)})
	}
}

func redacted(name string) []byte { return []byte("[redacted:" + name + "]") }

var patternName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

func (s *Spec) addPatterns(what string, given map[string]string) error {
	n := 0
	for _, key := range slices.Sorted(maps.Keys(given)) {
		name, is := strings.CutPrefix(key, redactFamily)
		if !is || given[key] == "" {
			continue
		}
		re, cost, err := compile(given[key])
		if n++; n > maxPatterns {
			err = fmt.Errorf("there are more than %d", maxPatterns)
		} else if !patternName.MatchString(name) {
			err = errors.New("its name is not 1 to 32 letters, digits, - and _")
		}
		if err != nil {
			return &options.ValueError{What: what, Key: key, Value: given[key], Err: err}
		}
		d := redactor{re: re, anchored: isAnchored(given[key]), mark: redacted(name)}
		if s.dear += cost; d.anchored {
			s.dear += cost // it searches fields twice, see member
		}
		s.secrets = append(s.secrets, d)
	}
	return nil
}

// isAnchored reports whether an expression asks for the beginning or the end of
// a text or a line.
func isAnchored(v string) bool {
	tree, err := syntax.Parse(v, syntax.Perl)
	if err != nil {
		return false
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return false
	}
	const edges = syntax.EmptyBeginLine | syntax.EmptyEndLine | syntax.EmptyBeginText | syntax.EmptyEndText
	return slices.ContainsFunc(prog.Inst, func(i syntax.Inst) bool {
		return i.Op == syntax.InstEmptyWidth && syntax.EmptyOp(i.Arg)&edges != 0
	})
}

func size(v string, low, high int) (int, error) {
	n, err := units.RAMInBytes(v)
	if err != nil {
		return 0, fmt.Errorf("not a size such as 500k or 1m: %w", err)
	}
	if n < int64(low) || n > int64(high) {
		return 0, fmt.Errorf("not within %d to %d bytes", low, high)
	}
	return int(n), nil
}

func duration(v string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("not a duration such as 500ms or 2s: %w", err)
	}
	if d < low || d > high {
		return 0, fmt.Errorf("not within %s to %s", low, high)
	}
	return d, nil
}

func whole(v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("not a whole number from %d to %d", low, high)
	}
	return n, nil
}

func choice[V any](v string, of map[string]V) (V, error) {
	found, ok := of[v]
	if !ok {
		return found, notOneOf(v, slices.Collect(maps.Keys(of)))
	}
	return found, nil
}

func notOneOf(v string, names []string) error {
	names = slices.DeleteFunc(slices.Sorted(slices.Values(names)), func(n string) bool { return n == "" })
	return fmt.Errorf("%q is not one of %s", v, strings.Join(names, ", "))
}
