package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// slowly is for how long a cluster is left alone that has to be set up first, or we
// have.
const slowly = 30 * time.Second

// Error is what a cluster refuses until somebody has changed something.
type Error struct {
	Err    error
	Advice string
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %s", e.Err, e.Advice) }

func (e *Error) Unwrap() error { return e.Err }

// RetryAfter is for how long the cluster is to be left alone.
func (e *Error) RetryAfter() time.Duration { return slowly }

// verdict is what an error means for the record that it is about.
type verdict int

const (
	trouble  verdict = iota // everything is tried again later
	misfit                  // the same, but slowly, for somebody has to do something
	homeless                // its topic takes no records
	large                   // it, or its batch, is too large
	invalid                 // it, or one that came with it, will never be taken
)

// judge reads an error of producing a record. Errors that the client deals with
// itself, such as leaders that have moved, come here only when it has given up.
func judge(err error) verdict {
	switch {
	case is(err, kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return large
	case is(err, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedForMessageFormat):
		return invalid
	case is(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.TopicAuthorizationFailed, kerr.InvalidTopicException, kerr.PolicyViolation):
		return homeless
	case advice(err) != "":
		return misfit
	}
	return trouble
}

func is(err error, any ...*kerr.Error) bool {
	for _, one := range any {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// advice says what to do about an error, "" where nobody can do anything.
func advice(err error) string {
	switch {
	case is(err, kerr.SaslAuthenticationFailed):
		return "the brokers refuse the user or the password of the collector's URL"
	case is(err, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState):
		return "the brokers do not take this sasl= on this port: which ones do they (sasl.enabled.mechanisms)?"
	case is(err, kerr.ClusterAuthorizationFailed):
		return "the user may not produce idempotently: before Kafka 2.8 that takes an ACL for IdempotentWrite on the cluster"
	case is(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		return "create the topic, or have the brokers do it with create-topics=on"
	case is(err, kerr.TopicAuthorizationFailed):
		return "the user may not write there: it takes ACLs for Describe and Write on the topic, and for Create with create-topics=on"
	case is(err, kerr.InvalidTopicException, kerr.PolicyViolation):
		return "the brokers do not want such a topic"
	case is(err, kerr.UnsupportedVersion):
		return "the brokers are too old: this takes Kafka 0.11 or newer"
	case is(err, kerr.UnsupportedCompressionType):
		return "the brokers are too old for this compression: give another with compress="
	}
	return ""
}

// explain makes an error of the client one that says what to do.
func (l *link) explain(err error) error {
	err = redact.Error(err, l.secret)
	var said *wire.TLSError
	if noted := l.distrust.Load(); noted != nil && !errors.As(err, &said) {
		return fmt.Errorf("%w (%w)", noted, err)
	}
	if says := advice(err); says != "" {
		return &Error{Err: err, Advice: says}
	}
	return err
}
