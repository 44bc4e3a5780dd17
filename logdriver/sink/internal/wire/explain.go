package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"reflect"
)

// TLSError says what is wrong between us and a collector, and what to do.
type TLSError struct {
	Advice string
	Err    error
}

func (e *TLSError) Error() string { return fmt.Sprintf("%v: %s", e.Err, e.Advice) }

func (e *TLSError) Unwrap() error { return e.Err }

// explain adds to an error of TLS what to do about it.
func (s *security) explain(err error) error {
	if err == nil {
		return nil
	}
	advice := s.adviceOnCertificate(err)
	if advice == "" {
		advice = s.adviceOnAlert(err)
	}
	if header := (tls.RecordHeaderError{}); advice == "" && errors.As(err, &header) {
		advice = "the collector does not speak TLS on this port: is it the right port, and is it set up for TLS?"
	}
	if advice == "" {
		return err
	}
	return &TLSError{Advice: advice, Err: err}
}

// adviceOnCertificate is for a certificate that we refuse.
func (s *security) adviceOnCertificate(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown) && s.ca == "":
		return "the host's authorities did not issue the collector's certificate: name a file with those who did by tls-ca"
	case errors.As(err, &unknown):
		return fmt.Sprintf("the authorities in tls-ca=%s did not issue the collector's certificate", s.ca)
	case errors.As(err, &name):
		return fmt.Sprintf("the collector's certificate is not for %q: connect by a name that it is for, or say which with tls-name", s.name)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the collector's certificate is not valid now: renew it there, or set the clock that is wrong"
	case errors.As(err, &invalid):
		return "the collector's certificate cannot be used by a server: issue another"
	}
	return ""
}

// Alerts of RFC 8446 section 6.2 that say something of certificates.
const (
	alertHandshakeFailure    = 40
	alertBadCertificate      = 42
	alertCertificateUnknown  = 46 // all between are certificates, too
	alertUnknownCA           = 48
	alertAccessDenied        = 49
	alertProtocolVersion     = 70
	alertCertificateRequired = 116
)

// adviceOnAlert is for what the collector refuses.
func (s *security) adviceOnAlert(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return ""
	}
	// crypto/tls has no exported type for the alerts of a TCP connection.
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return ""
	}
	switch alert := v.Uint(); {
	case alert == alertProtocolVersion:
		return "the collector speaks none of the TLS versions that tls-min allows"
	case alert == alertCertificateRequired, s.cert == "" && (alert == alertHandshakeFailure || alert == alertBadCertificate):
		return "the collector asks for a certificate: give one with tls-cert and tls-key"
	case s.cert != "" && (alert >= alertBadCertificate && alert <= alertCertificateUnknown || alert == alertUnknownCA || alert == alertAccessDenied):
		return fmt.Sprintf("the collector refused our certificate, tls-cert=%s: is it issued by an authority that the collector trusts, for clients, and valid?", s.cert)
	}
	return ""
}
