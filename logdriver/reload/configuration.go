package reload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/internal/wholefile"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
)

const (
	folder  = "config"  // below the state: versions of the configuration, with the files beside it
	current = "current" // in it: a link to the one in force, which outlives its source
)

// Status is where the configuration comes from and how new it is.
type Status struct {
	Source  string    `json:"source"`
	Version string    `json:"version,omitempty"`         // of the one in force; none: it is not known yet
	Since   time.Time `json:"since,omitzero"`            // when that was taken
	Refused string    `json:"refused,omitempty"`         // why a newer version is not
	RefVer  string    `json:"refused_version,omitempty"` // which
	Error   string    `json:"error,omitempty"`           // why nobody knows whether there is a newer one
	Pools   []string  `json:"pools"`

	Applied, Refusals, Failures uint64 `json:"-"` // how often
}

// Settings say where the configuration comes from, and what is done with it.
type Settings struct {
	State       string        // the plugin's own directory
	Key         string        // of Consul or etcd, that holds the configuration; see discover.ParseDocument. Or None
	Mount       string        // where a directory of the host is seen with the configuration and what belongs to it; "" for none
	MountedFrom string        // what that is there, for people
	Fallback    *config.Pool  // that the settings name; nil for none
	Host        discover.Host // for a Key

	// Checks are those of a version whose files are in a directory.
	Checks func(dir string) config.Checks
	// Before prepares for the next configuration, and returns the pools that it does
	// not have and that are still needed.
	Before func(was, next *config.Config) (former []*config.Pool, err error)
}

// Configuration keeps the configuration that is in force.
type Configuration struct {
	// Applied is called when another is in force. It is set before Follow is called.
	Applied func(*config.Config)

	doc      discover.Document // nil: the plugin's settings are all there is
	settings Settings
	dir      string // where versions are kept
	log      *slog.Logger

	offers sync.Mutex // one offer at a time; guards wanted
	wanted []byte     // what the source said last, if that was refused

	mu     sync.Mutex // guards what follows
	now    *config.Config
	status Status
}

// Dir is where the files of the configuration in force are.
func Dir(state string) string { return filepath.Join(state, folder, current) }

// Open takes up the version that was in force last, or what the settings say.
func Open(s Settings, log *slog.Logger) *Configuration {
	c := &Configuration{Applied: func(*config.Config) {}, settings: s, dir: filepath.Join(s.State, folder), log: log}
	switch from := c.origin(); {
	case s.Key == None || from == "" && s.Key+s.Mount == "":
		c.forget()
		return c
	case s.Key != "":
		c.doc = keyDocument{s.Key, s.Host}
	case s.Mount != "":
		c.doc = discover.Folder(s.Mount, config.FileName, "directory "+s.MountedFrom)
	default:
		c.doc = forgotten(from)
	}
	c.status.Source = c.doc.String()
	c.resume()
	if s.Key == "" { // it is near: no container starts before it is looked at
		if text, err := (hostfile.Places{Config: s.Mount}).Read(config.FileName, config.MaxBytes); err == nil {
			c.offer(text, nil)
		}
	}
	return c
}

// keyDocument is a document in a store. It is opened when it is asked for: a file
// that is missing for that must not keep the plugin from starting.
type keyDocument struct {
	at   string
	host discover.Host
}

func (d keyDocument) String() string {
	before, _, _ := strings.Cut(d.at, "?")
	return redact.List(before)
}

func (d keyDocument) Follow(ctx context.Context, set func([]byte)) error {
	doc, err := d.open()
	if err != nil {
		return err
	}
	return doc.Follow(ctx, set)
}

func (d keyDocument) open() (discover.Document, error) {
	doc, err := discover.ParseDocument(d.at, d.host)
	if err != nil {
		return nil, &options.ValueError{What: "plugin setting", Key: "CONFIG", Value: d.String(), Err: err}
	}
	return doc, nil
}

// Warning says that a secret goes to where the configuration is without encryption,
// "" where none does.
func (c *Configuration) Warning() string {
	k, ok := c.doc.(keyDocument)
	if !ok {
		return ""
	}
	doc, err := k.open()
	if err != nil {
		return "" // which is said elsewhere
	}
	return discover.Exposed(doc)
}

// None is the setting CONFIG that goes back to the settings alone.
const None = "none"

// originFile says, beside the versions, where they came from.
const originFile = "origin"

// origin returns where the configuration in force came from, "" if there is none.
func (c *Configuration) origin() string {
	if _, err := os.Lstat(filepath.Join(c.dir, current)); err != nil {
		return ""
	}
	from, err := os.ReadFile(filepath.Join(c.dir, originFile))
	if err != nil {
		return "a source that is not known"
	}
	return strings.TrimSpace(string(from))
}

// forget goes back to what the settings say.
func (c *Configuration) forget() {
	next := c.ofSettings()
	c.resume()
	_, err := c.settings.Before(c.now, next)
	if err == nil {
		err = os.RemoveAll(c.dir)
	}
	if err != nil {
		c.log.Error("a configuration that is not to be used any more is left", "err", err)
	}
	c.now, c.status = next, Status{Source: "settings", Version: next.Version, Since: time.Now()}
}

// forgotten is the source of a configuration that the settings do not name any
// more: the engine forgets a mount when it upgrades a plugin. Containers must not
// go elsewhere for that.
type forgotten string

func (f forgotten) String() string { return string(f) }

// Follow implements discover.Document.
func (f forgotten) Follow(context.Context, func([]byte)) error {
	return fmt.Errorf("neither config.source nor CONFIG is set, and the configuration came from %s: set that again, or CONFIG=%s to go without it", string(f), None)
}

func (c *Configuration) ofSettings() *config.Config {
	now := &config.Config{Version: "settings", Pools: map[string]*config.Pool{}}
	if c.settings.Fallback != nil {
		now.Pools[config.DefaultPool] = c.settings.Fallback
		now.Defaults.Pools = []string{config.DefaultPool}
	}
	return now
}

// resume takes up the version that a former process was left with.
func (c *Configuration) resume() {
	link := filepath.Join(c.dir, current)
	text, err := os.ReadFile(filepath.Join(link, config.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		// It was checked when it was taken. What may have changed since, a file of
		// the host, is a matter of the pool that needs it.
		checks := c.settings.Checks(link)
		checks.Pool = func(*config.Pool) error { return nil }
		c.now, _, err = config.Parse(config.FileName, text, c.settings.Fallback, checks)
	}
	if err != nil {
		c.log.Error("the configuration that was in force cannot be used any more", "err", err)
		return
	}
	if to, err := os.Readlink(link); err == nil {
		c.now.Version = to
	}
	c.status.Version = c.now.Version
	if info, err := os.Lstat(link); err == nil {
		c.status.Since = info.ModTime()
	}
}

// Current returns the configuration in force, nil while none is known.
func (c *Configuration) Current() *config.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Follow follows the source until ctx ends.
func (c *Configuration) Follow(ctx context.Context) {
	if c.doc != nil {
		if w := c.Warning(); w != "" {
			c.log.Warn("a secret is sent without encryption", "what", "configuration: "+w)
		}
		discover.FollowDocument(ctx, c.doc, c.offer)
	}
}

// offer takes a version, if it is another one and all of it can be used, or why
// nobody knows whether there is one.
func (c *Configuration) offer(text []byte, err error) {
	c.offers.Lock()
	defer c.offers.Unlock()
	c.offerLocked(text, err)
}

// Again offers once more what was refused: a file of the host that it names may
// be there now. Not every source says again what it has.
func (c *Configuration) Again() {
	c.offers.Lock()
	defer c.offers.Unlock()
	if c.wanted != nil {
		c.offerLocked(c.wanted, nil)
	}
}

func (c *Configuration) offerLocked(text []byte, err error) {
	c.wanted = nil
	if err != nil {
		c.failed(err)
		return
	}
	v, err := readVersion(text, c.settings.Mount)
	if err != nil {
		c.failed(err)
		return
	}
	if c.isCurrent(v.id) {
		return
	}
	next, err := c.take(v)
	if err != nil {
		c.wanted = text
		c.refused(v.id, err)
		return
	}
	c.mu.Lock()
	c.now = next
	s := &c.status
	s.Version, s.Since, s.Refused, s.RefVer, s.Error = v.id, time.Now(), "", "", ""
	s.Applied++
	c.mu.Unlock()
	c.log.Info("a configuration is in force", "source", c.status.Source, "version", v.id, "pools", next.Names(true), "routes", len(next.Routes))
	c.Applied(next)
}

// take keeps a version and checks it with the files that it was kept with.
func (c *Configuration) take(v *version) (*config.Config, error) {
	if err := v.keep(c.dir); err != nil {
		return nil, err
	}
	next, warnings, err := config.Parse(config.FileName, v.text, c.settings.Fallback, c.settings.Checks(filepath.Join(c.dir, v.id)))
	if err != nil {
		return nil, errors.Join(err, v.discard(c.dir))
	}
	for _, w := range warnings {
		c.log.Warn("the configuration says something that is most likely not meant", "what", w.Error())
	}
	next.Version = v.id
	former, err := c.settings.Before(c.Current(), next)
	if err == nil {
		c.carry(v, former)
		err = wholefile.Write(filepath.Join(c.dir, originFile), []byte(c.status.Source+"\n"), true)
	}
	if err == nil {
		err = v.install(c.dir)
	}
	return next, err
}

// carry keeps the files of pools that the version does not have any more, unless
// it has others of these names: those pools may have to be connected to anew.
func (c *Configuration) carry(to *version, former []*config.Pool) {
	if len(former) == 0 {
		return
	}
	was, err := readVersion(nil, filepath.Join(c.dir, current))
	if err != nil {
		c.log.Error("pools that the configuration no longer has may miss their files", "err", err)
		return
	}
	for name, data := range was.files {
		named := func(p *config.Pool) bool { return p.Names(name) }
		if _, has := to.files[name]; has || !slices.ContainsFunc(former, named) {
			continue
		}
		if err := wholefile.Write(filepath.Join(c.dir, to.id, name), data, true); err != nil {
			c.log.Error("a pool that the configuration no longer has may miss a file", "file", name, "err", err)
		}
	}
}

func (c *Configuration) isCurrent(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Error = ""
	if c.now == nil || c.now.Version != id {
		return false
	}
	if c.status.RefVer != "" {
		c.log.Info("the source has the configuration again that is in force", "version", id)
	}
	c.status.Refused, c.status.RefVer = "", ""
	return true
}

func (c *Configuration) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Failures++
	if c.status.Error == err.Error() {
		return
	}
	c.status.Error = err.Error()
	if c.now == nil {
		c.log.Error("no configuration is known: what containers write waits in the spool", "source", c.status.Source, "err", err)
		return
	}
	c.log.Warn("nobody knows whether there is a newer configuration; the one in force stays", "source", c.status.Source, "version", c.now.Version, "err", err)
}

func (c *Configuration) refused(id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.RefVer == id && c.status.Refused == err.Error() {
		return
	}
	c.status.RefVer, c.status.Refused = id, err.Error()
	c.status.Refusals++
	if c.now == nil {
		c.log.Error("a configuration is refused, and none is in force: what containers write waits in the spool", "source", c.status.Source, "refused", id, "why", err)
		return
	}
	c.log.Error("a configuration is refused; the one in force stays", "source", c.status.Source, "refused", id, "in_force", c.now.Version, "why", err)
}

// Status returns what an operator wants to know of it.
func (c *Configuration) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Pools = []string{}
	if c.now != nil {
		s.Pools = append(s.Pools, c.now.Names(true)...)
	}
	return s
}
