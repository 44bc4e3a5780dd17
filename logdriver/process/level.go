package process

// Level is how bad a record is, as the application says.
type Level uint8

// Levels, the names of RFC 5424 section 6.2.1 and one below them.
const (
	NoLevel Level = iota
	Trace
	Debug
	Info
	Notice
	Warn
	Error
	Critical
	Alert
	Emergency
)

var levelNames = [...]string{"", "trace", "debug", "info", "notice", "warn", "error", "critical", "alert", "emergency"}

// String returns the level's name, "" for none.
func (l Level) String() string { return levelNames[l] }

// Severity returns the level's number in RFC 5424, from 0 (emergency) to 7 (debug).
func (l Level) Severity() int {
	switch {
	case l == NoLevel:
		return int(Debug) // never asked for
	case l <= Debug:
		return 7
	}
	return int(Emergency - l)
}

// levelOf reads a level as logging libraries write it.
func levelOf(text []byte) (Level, bool) {
	var low [16]byte
	if len(text) == 0 || len(text) > len(low) {
		return NoLevel, false
	}
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	switch string(low[:len(text)]) {
	case "trace", "trc", "finest", "finer", "10":
		return Trace, true
	case "debug", "dbg", "debu", "fine", "verbose", "20", "7":
		return Debug, true
	case "info", "inf", "information", "informational", "config", "30", "6":
		return Info, true
	case "notice", "5":
		return Notice, true
	case "warn", "warning", "wrn", "40", "4":
		return Warn, true
	case "error", "err", "eror", "severe", "50", "3":
		return Error, true
	case "fatal", "critical", "crit", "panic", "dpanic", "ftl", "60", "2":
		return Critical, true
	case "alert", "1":
		return Alert, true
	case "emergency", "emerg", "0":
		return Emergency, true
	}
	return NoLevel, false
}
