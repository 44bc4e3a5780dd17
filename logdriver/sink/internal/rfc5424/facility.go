package rfc5424

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// DefaultFacility is daemon, as with the engine's own driver.
const DefaultFacility = 3

// facilities returns the names that the engine's driver knows
// (daemon/logger/syslog); 12 to 15 go by number only.
func facilities() map[string]int {
	known := map[string]int{
		"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5,
		"lpr": 6, "news": 7, "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11,
	}
	for i := range 8 {
		known["local"+strconv.Itoa(i)] = 16 + i
	}
	return known
}

// Facility returns the parameter `facility` of a collector's URL: a name, or a
// number from 0 to 23.
func Facility(t *wire.Target) (int, error) {
	text, given := t.Params["facility"]
	if !given {
		return DefaultFacility, nil
	}
	n, err := parseFacility(text)
	if err != nil {
		return 0, &options.ValueError{What: wire.ParamKind, Key: "facility", Value: text, Err: err}
	}
	return n, nil
}

func parseFacility(text string) (int, error) {
	known := facilities()
	if n, found := known[text]; found {
		return n, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("not a facility: did you mean %q?", options.Nearest(text, slices.Collect(maps.Keys(known))))
	}
	if n < 0 || n > 23 {
		return 0, errors.New("not within 0 to 23")
	}
	return n, nil
}
