// Command vulncheck looks for known vulnerabilities in what the plugins are built of,
// with govulncheck, and fails where our code reaches one that is not in the list of
// those that are known and cannot be helped. Where it has no database to look into,
// it says so and ends with code 2: nothing was checked then.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// unchecked is the exit code where there is no database.
const unchecked = 2

func main() {
	db := flag.String("db", cmp.Or(os.Getenv("VULNDB"), "https://vuln.go.dev"), "the database: an https:// or file:// URL")
	allowed := flag.String("allow", "tools/vulncheck.txt", "the list of what cannot be helped: an id a line, and why")
	modfile := flag.String("tools", "tools/go.mod", "the go.mod that has govulncheck")
	dir := flag.String("C", ".", "the module that is looked at")
	flag.Parse()
	known, err := readAllowed(*allowed)
	if err == nil {
		err = check(*db, *modfile, *dir, known, os.Stdout)
	}
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, errNoDatabase) {
		os.Exit(unchecked)
	}
	os.Exit(1)
}

var errNoDatabase = errors.New("NOT CHECKED for known vulnerabilities: no database of them could be read; name one that can be reached from here with VULNDB=https://… or VULNDB=file:///… (https://go.dev/doc/security/vuln/database)")

// message is one of govulncheck's (golang.org/x/vuln/internal/govulncheck).
type message struct {
	Config *struct {
		DB           string    `json:"db"`
		LastModified time.Time `json:"db_last_modified"`
	} `json:"config"`
	OSV *struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"osv"`
	Finding *struct {
		OSV   string `json:"osv"`
		Fixed string `json:"fixed_version"`
		Trace []struct {
			Module, Version, Package, Function string
		} `json:"trace"`
	} `json:"finding"`
}

func check(db, modfile, dir string, allowed map[string]string, out io.Writer) error {
	modfile, err := filepath.Abs(modfile)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "tool", "-modfile="+modfile, "govulncheck", "-C", dir, "-db", db, "-format", "json", "./...") //nolint:gosec // our own arguments
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.Dir = filepath.Dir(filepath.Dir(modfile))
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	cmd.Args[5] = dir
	text, ran := cmd.Output()
	r, err := read(text)
	switch {
	case err != nil:
		return fmt.Errorf("read what govulncheck says: %w", err)
	case ran != nil && (r.modified.IsZero() || strings.Contains(said.String(), db)):
		return fmt.Errorf("%w\n%s", errNoDatabase, said.Bytes())
	case ran != nil:
		return fmt.Errorf("govulncheck: %w\n%s", ran, said.Bytes())
	}
	fmt.Fprintf(out, "known vulnerabilities: %s, last changed on %s\n", db, r.modified.Format(time.DateOnly))
	return r.judge(allowed, out)
}

// result is what govulncheck found.
type result struct {
	modified time.Time
	summary  map[string]string
	reached  map[string]string // of what our code calls: where, and what mends it
}

func read(text []byte) (result, error) {
	r := result{summary: map[string]string{}, reached: map[string]string{}}
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var m message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return r, nil
		} else if err != nil {
			return r, err
		}
		switch {
		case m.Config != nil:
			r.modified = m.Config.LastModified
		case m.OSV != nil:
			r.summary[m.OSV.ID] = m.OSV.Summary
		case m.Finding != nil && len(m.Finding.Trace) > 0 && m.Finding.Trace[0].Function != "":
			f := m.Finding.Trace[0]
			r.reached[m.Finding.OSV] = fmt.Sprintf("%s.%s of %s %s; mended in %s", f.Package, f.Function, f.Module, f.Version, cmp.Or(m.Finding.Fixed, "no version yet"))
		}
	}
}

func (r result) judge(allowed map[string]string, out io.Writer) error {
	var bad []string
	for _, id := range slices.Sorted(maps.Keys(r.reached)) {
		if why, ok := allowed[id]; ok {
			fmt.Fprintf(out, "%s: %s (%s): known: %s\n", id, r.summary[id], r.reached[id], why)
		} else {
			bad = append(bad, fmt.Sprintf("%s: %s (%s)", id, r.summary[id], r.reached[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(allowed)) {
		if r.reached[id] == "" {
			bad = append(bad, id+" is not reached any more: take it off the list")
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "\n"))
	}
	fmt.Fprintln(out, "nothing that our code reaches, beyond what is known")
	return nil
}

// readAllowed reads a list: an id and a reason a line, # for comments.
func readAllowed(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read what is allowed: %w", err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, why, _ := strings.Cut(line, " ")
		if why = strings.TrimSpace(why); why == "" || !strings.HasPrefix(id, "GO-") {
			return nil, fmt.Errorf("%s: %q is not an id, GO-…, and a reason", file, line)
		}
		all[id] = why
	}
	return all, nil
}
