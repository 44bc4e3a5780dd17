package etcd

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/loopback"
	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/netdriver/ipam"
)

// Name is the backend's name in options.
const Name = "etcd"

// DefaultPrefix is where the keys are if nothing is said.
const DefaultPrefix = "/dockline/addresses"

// Settings say how to reach etcd. Files are read at each connection: one that is
// missing keeps no container from starting again.
type Settings struct {
	Endpoints    []string // http:// or https://, all alike
	User         string
	Password     string
	PasswordFile string // instead of Password
	CA           string // file
	Cert, Key    string // files; "" for none
	Prefix       string
}

// ParseSettings reads them from the environment; ok is false where it names no
// endpoints.
func ParseSettings(getenv func(string) string) (s Settings, ok bool, err error) {
	s = Settings{
		User: getenv("ETCD_USER"), Password: getenv("ETCD_PASSWORD"), PasswordFile: getenv("ETCD_PASSWORD_FILE"),
		CA: getenv("ETCD_CA_FILE"), Cert: getenv("ETCD_CERT_FILE"), Key: getenv("ETCD_KEY_FILE"),
		Prefix: strings.TrimRight(cmp.Or(getenv("ETCD_PREFIX"), DefaultPrefix), "/"),
	}
	s.Endpoints = strings.FieldsFunc(getenv("ETCD_ENDPOINTS"), func(r rune) bool { return r == ',' || r == ' ' })
	if len(s.Endpoints) == 0 {
		return s, false, nil
	}
	return s, true, s.check()
}

func (s Settings) check() error {
	schemes := map[string]bool{}
	list := strings.Join(s.Endpoints, ",")
	if strings.Contains(list, "@") { // of which nothing is shown: a password, with a comma in it, may be several of them
		return errors.New("ETCD_ENDPOINTS: one has a user in it, which /cluster and logs would show; say ETCD_USER and ETCD_PASSWORD_FILE")
	}
	for _, text := range s.Endpoints {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("ETCD_ENDPOINTS: %q is not of the form http://HOST:PORT or https://HOST:PORT", redact.Entry(text, list))
		}
		schemes[u.Scheme] = true
	}
	switch {
	case len(schemes) > 1:
		return errors.New("ETCD_ENDPOINTS: some are http and some https")
	case schemes["http"] && (s.CA != "" || s.Cert != ""):
		return errors.New("ETCD_CA_FILE and ETCD_CERT_FILE are for https endpoints")
	case schemes["https"] && s.CA == "":
		return errors.New("ETCD_CA_FILE is needed for https endpoints: the plugin has no authorities of its own")
	case (s.Cert == "") != (s.Key == ""):
		return errors.New("ETCD_CERT_FILE and ETCD_KEY_FILE go together")
	case s.User == "" && (s.Password != "" || s.PasswordFile != ""):
		return errors.New("a password for etcd without ETCD_USER")
	case s.User != "" && (s.Password == "") == (s.PasswordFile == ""):
		return errors.New("ETCD_USER needs one of ETCD_PASSWORD and ETCD_PASSWORD_FILE")
	case !strings.HasPrefix(s.Prefix, "/"):
		return fmt.Errorf("ETCD_PREFIX: %q does not begin with a slash", s.Prefix)
	}
	return nil
}

// Exposed says that the password goes to etcd without encryption, "" where it does
// not.
func (s Settings) Exposed() string {
	if s.User == "" {
		return ""
	}
	for _, text := range s.Endpoints {
		if u, err := url.Parse(text); err == nil && u.Scheme == "http" && !loopback.Is(u.Host) {
			return fmt.Sprintf("the password of ETCD_USER goes to %s unencrypted, for everybody to read who is between: use https and ETCD_CA_FILE", u.Host)
		}
	}
	return ""
}

// What is read from etcd, and of the files, at most, in bytes. All records of a
// cluster come in one answer; one is less than 400.
const (
	maxAnswer  = 64 << 20
	maxHeaders = 64 << 10
	maxFile    = 1 << 20
)

// client reads the files.
func (s Settings) client() (clientv3.Config, error) {
	c := clientv3.Config{
		Endpoints: s.Endpoints, Username: s.User, Password: s.Password, Logger: zap.NewNop(),
		DialTimeout: listTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		MaxCallRecvMsgSize: maxAnswer, DialOptions: []grpc.DialOption{grpc.WithMaxHeaderListSize(maxHeaders)},
	}
	if s.PasswordFile != "" {
		raw, err := hostfile.Read(s.PasswordFile, maxFile)
		if err != nil {
			return c, fmt.Errorf("ETCD_PASSWORD_FILE: %w", err)
		}
		c.Password = strings.TrimSpace(string(raw))
	}
	if !strings.HasPrefix(s.Endpoints[0], "https:") {
		return c, nil
	}
	c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	pem, err := hostfile.Read(s.CA, maxFile)
	if err != nil {
		return c, fmt.Errorf("ETCD_CA_FILE: %w", err)
	}
	c.TLS.RootCAs = x509.NewCertPool()
	if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
		return c, fmt.Errorf("ETCD_CA_FILE: %s holds no certificate", s.CA)
	}
	if s.Cert != "" {
		read := func() (*tls.Certificate, error) {
			cert, err := hostfile.Read(s.Cert, maxFile)
			var key []byte
			if err == nil {
				key, err = hostfile.Read(s.Key, maxFile)
			}
			var pair tls.Certificate
			if err == nil {
				pair, err = tls.X509KeyPair(cert, key)
			}
			if err != nil {
				return nil, fmt.Errorf("ETCD_CERT_FILE, ETCD_KEY_FILE: %w", err)
			}
			return &pair, nil
		}
		if _, err := read(); err != nil {
			return c, err
		}
		c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() }
	}
	return c, nil
}

// Pools is what this package asks of the Manager.
type Pools interface {
	Held(backend string) []ipam.HeldPool
	Candidates(pool netip.Prefix, n int, known func(netip.Addr) bool) []netip.Addr
}

// Config is what a Backend works on. All fields but Network, Definition,
// LeakGrace, Every and Through are needed.
type Config struct {
	Settings
	Host     string // the id of this installation, the same after restarts
	HostName string // for people
	Boot     string // the id of the machine's present boot
	// Reserve is the table of what is claimed ahead; its keys are ours.
	Reserve ipam.Store[netip.Addr]
	// Network returns the id of the network on a pool; "" while there is none.
	Network func(pool netip.Prefix) string
	// Definition returns that of the network on a pool, as ipam.Sharer has it; nil
	// while there is none.
	Definition func(pool netip.Prefix) map[string]string
	// LeakGrace is how long a record of this host stays that the Manager does not
	// know, and twice that after the start: an engine that starts says again what
	// it knows. 0 is half a minute.
	LeakGrace time.Duration
	// Every is how often Manager and etcd are compared whatever happens; 0 is ten
	// seconds.
	Every time.Duration
	// Through is what requests go through, for tests that delay or lose them; nil
	// is nothing.
	Through func(clientv3.KV) clientv3.KV
	Log     *slog.Logger
}

// The options of a pool.
const (
	optionSegment = "segment"
	optionReserve = "reserve"
	optionHold    = "hold"
	optionShare   = "share"

	defaultSegment = "default"
	maxReserve     = 256
	maxHold        = 30 * 24 * time.Hour
)

var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// poolOptions are those of one pool.
type poolOptions struct {
	segment string
	share   string
	reserve int
	hold    time.Duration
}

// Options are those that a network may give it.
func (*Backend) Options() []options.Option { return Options() }

// Options are those of every Backend.
func Options() []options.Option {
	return []options.Option{
		{Name: optionSegment, Type: "name", Default: defaultSegment, Doc: "The layer 2 network on which addresses are to be unique. Give networks names of their own that are on different VLANs and use the same addresses."},
		{Name: optionReserve, Type: fmt.Sprintf("0 to %d", maxReserve), Default: "0", Doc: "How many addresses each host claims ahead, for when etcd is away."},
		{Name: optionHold, Type: "duration, at most `720h`", Default: "0s", Doc: "For how long a released address is kept for [the container that had it](addresses.md#the-same-container-the-same-address), on whatever host it comes back. Others do not get it, unless no other is free and all that is known of the container is a MAC of no hardware."},
		{Name: optionShare, Type: "name", Doc: "The network's definition is compared with, or taken from, that of the other hosts: [A definition for all hosts](addresses.md#a-definition-for-all-hosts)."},
	}
}

func parseOptions(given map[string]string) (o poolOptions, err error) {
	refuse := func(key, why string) (poolOptions, error) {
		return o, &options.ValueError{What: "IPAM option", Key: key, Value: given[key], Err: errors.New(why)}
	}
	if err := ipam.CheckOptions(given, Options()...); err != nil {
		return o, err
	}
	o.segment, o.share = cmp.Or(given[optionSegment], defaultSegment), given[optionShare]
	if !name.MatchString(o.segment) {
		return refuse(optionSegment, "not a name of 1 to 63 letters, digits and ._-")
	}
	if o.share != "" && !name.MatchString(o.share) {
		return refuse(optionShare, "not a name of 1 to 63 letters, digits and ._-")
	}
	if text := given[optionReserve]; text != "" {
		if o.reserve, err = strconv.Atoi(text); err != nil || o.reserve < 0 || o.reserve > maxReserve {
			return refuse(optionReserve, fmt.Sprintf("not a number from 0 to %d", maxReserve))
		}
	}
	if text := given[optionHold]; text != "" {
		if o.hold, err = time.ParseDuration(text); err != nil || o.hold < 0 || o.hold > maxHold {
			return refuse(optionHold, "not a duration from 0s to 720h, such as 10m")
		}
	}
	return o, nil
}

// optionsOf are those of a pool that there is: they were checked when it was made.
func optionsOf(p ipam.Pool) poolOptions {
	o, err := parseOptions(p.Options)
	if err != nil {
		return poolOptions{segment: defaultSegment}
	}
	return o
}
