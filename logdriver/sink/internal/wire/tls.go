package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/sink"
)

// tlsParams are the parameters of URLs whose scheme ends in +tls or +https.
func tlsParams() []string {
	return []string{"tls-ca", "tls-cert", "tls-key", "tls-name", "tls-min", "tls-insecure"}
}

const (
	// settleTime is for how long a collector that asked for a certificate may
	// take to refuse it without a word from it, see secured.accepted.
	settleTime = 2 * time.Second
	// closeGrace is for how long a collector that reads nothing may hold up
	// our goodbye.
	closeGrace = 500 * time.Millisecond
)

// bundles are where Linux distributions keep the authorities that they trust.
func bundles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Gentoo
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/ssl/cert.pem",                                 // Alpine
	}
}

// security is what the URL says of TLS. The files are read at every connection,
// so that those that were replaced count from the next one.
type security struct {
	host          sink.Host
	addr          string // of the collector, for the log
	name          string // that its certificate has to be for
	ca, cert, key string // files; "" for the host's authorities, and for none
	min           uint16
	insecure      bool
	alpn          []string // what is spoken above; nil: not said
}

func parseSecurity(params map[string]string, addr string, host sink.Host) (*security, error) {
	s := &security{host: host, addr: addr, min: tls.VersionTLS12, name: params["tls-name"],
		ca: params["tls-ca"], cert: params["tls-cert"], key: params["tls-key"]}
	if s.name == "" {
		s.name, _, _ = net.SplitHostPort(addr)
	}
	for _, key := range []string{"tls-ca", "tls-cert", "tls-key"} {
		name, given := params[key]
		if !given {
			continue
		}
		if err := host.CheckName(name); err != nil {
			return nil, &options.ValueError{What: ParamKind, Key: key, Value: name, Err: err}
		}
	}
	if (s.cert == "") != (s.key == "") {
		return nil, errors.New("tls-cert and tls-key belong together: give both or none")
	}
	switch min := params["tls-min"]; min {
	case "", "1.2":
	case "1.3":
		s.min = tls.VersionTLS13
	default:
		return nil, &options.ValueError{What: ParamKind, Key: "tls-min", Value: min, Err: errors.New("neither 1.2 nor 1.3")}
	}
	switch v := params["tls-insecure"]; v {
	case "", "off":
	case "on":
		s.insecure = true
	default:
		return nil, &options.ValueError{What: ParamKind, Key: "tls-insecure", Value: v, Err: errors.New("neither on nor off")}
	}
	if s.insecure && s.ca != "" {
		return nil, errors.New("tls-insecure=on checks no certificate, so that tls-ca has no meaning: leave one out")
	}
	return s, nil
}

// config reads the files.
func (s *security) config() (*tls.Config, error) {
	c := &tls.Config{
		ServerName: s.name, MinVersion: s.min, NextProtos: s.alpn,
		InsecureSkipVerify:          s.insecure, //nolint:gosec // asked for by tls-insecure=on, and logged
		DynamicRecordSizingDisabled: true,       // batches are large
	}
	if !s.insecure {
		var err error
		if c.RootCAs, err = s.authorities(); err != nil {
			return nil, err
		}
	}
	if s.cert == "" {
		return c, nil
	}
	cert, err := s.certificate()
	if err != nil {
		return nil, err
	}
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}

func (s *security) authorities() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if s.ca != "" {
		pem, err := s.host.ReadFile(s.ca)
		if err != nil {
			return nil, fmt.Errorf("tls-ca: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls-ca: %s holds no certificate in PEM form", s.ca)
		}
		return pool, nil
	}
	for _, name := range bundles() {
		if pem, err := s.host.ReadFile(name); err == nil && pool.AppendCertsFromPEM(pem) {
			return pool, nil
		}
	}
	return nil, errors.New("the host's certificate authorities are not found: name a file with tls-ca")
}

func (s *security) certificate() (tls.Certificate, error) {
	cert, err := s.host.ReadFile(s.cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls-cert: %w", err)
	}
	key, err := s.host.ReadFile(s.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls-key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls-cert %s, tls-key %s: %w", s.cert, s.key, err)
	}
	return pair, nil
}

// handshake puts TLS above a connection. An error leaves it open.
func (s *security) handshake(ctx context.Context, conn *rawConn) (*secured, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	if s.insecure {
		s.host.Log.Warn("the collector's certificate is not checked, as tls-insecure=on asks for: whoever is between may read and forge", "address", s.addr)
	}
	c := &secured{raw: conn, security: s}
	cert := new(tls.Certificate) // none
	if len(config.Certificates) > 0 {
		cert = &config.Certificates[0]
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c.asked = true
		return cert, nil
	}
	config.ClientSessionCache = &c.ticket
	c.Conn = tls.Client(conn, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", s.explain(err))
	}
	c.version, c.since = c.ConnectionState().Version, time.Now()
	return c, nil
}

// shown names our certificate.
func (s *security) shown() string {
	if s.cert == "" {
		return "clients without one (tls-cert and tls-key give one)"
	}
	return "tls-cert=" + s.cert
}

// secured is a connection under TLS.
type secured struct {
	*tls.Conn
	raw      *rawConn
	security *security
	version  uint16
	since    time.Time // of the handshake
	asked    bool      // the collector asked for a certificate
	heard    bool      // it said something; owned by the one who reads
	ticket   ticket
}

// accepted reports whether the collector has accepted our certificate. Up to
// TLS 1.2 it has before the handshake ends. In TLS 1.3 it looks at what we send
// last, while its kernel takes the first records already; what it says next is
// either an alert or, from most, a session ticket (RFC 8446 section 4.6.1).
// From others there is only silence.
func (c *secured) accepted(settle time.Duration) bool {
	return c.version < tls.VersionTLS13 || !c.asked || c.ticket.came.Load() || time.Since(c.since) >= settle
}

func (c *secured) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard = true
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return n, err
	}
	explained := c.security.explain(err)
	if explained == err && !c.heard && c.version == tls.VersionTLS13 && c.asked && !c.ticket.came.Load() { //nolint:errorlint // whether it is the same one
		explained = &TLSError{Err: err, Advice: "the collector asks for a certificate and ended the connection before it took any: does it trust " + c.security.shown() + "?"}
	}
	return n, explained
}

func (c *secured) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.security.explain(err)
}

func (c *secured) Close() error {
	c.raw.closing.Store(true)
	err := c.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // the goodbye may not find anybody any more; the descriptor is closed
}

// ticket notes that a session ticket came. Sessions are not resumed: the
// certificates that count are those of now.
type ticket struct{ came atomic.Bool }

func (t *ticket) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (t *ticket) Put(string, *tls.ClientSessionState)        { t.came.Store(true) }

// rawConn is what TLS writes to, and a Stream.
type rawConn struct {
	*net.TCPConn
	ledger  *Ledger // counts what is written, once it is there
	written uint64  // before that
	closing atomic.Bool
}

func (c *rawConn) Write(p []byte) (int, error) {
	if c.ledger == nil {
		c.written += uint64(len(p))
	} else if err := c.ledger.Begin(uint64(len(p))); err != nil && !c.closing.Load() {
		return 0, err // only the goodbye is still to be said then
	}
	return c.TCPConn.Write(p)
}

// SetWriteDeadline keeps TLS from waiting for long to say goodbye.
func (c *rawConn) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(closeGrace); c.closing.Load() && (t.IsZero() || t.After(latest)) {
		t = latest
	}
	return c.TCPConn.SetWriteDeadline(t)
}
