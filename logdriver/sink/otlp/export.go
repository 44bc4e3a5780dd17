package otlp

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// scope names what made the records: the field of a ScopeLogs.
var scope = protowire.AppendBytes([]byte{scopeLogsScope<<3 | 2}, protowire.AppendString([]byte{scopeName<<3 | 2}, "github.com/dockline/dockline")) //nolint:gochecknoglobals // a constant

// export is the body of an ExportLogsServiceRequest.
type export struct{}

func (export) Type() string { return "application/x-protobuf" }

func (export) Body(dst, text []byte, records []web.Record) []byte {
	web.Gather(records, func(g *web.Group, of []web.Record) {
		size := len(scope)
		for i := range of {
			size += len(of[i].Text(text))
		}
		dst = protowire.AppendVarint(append(dst, requestResource<<3|2), uint64(len(g.Head)+1+protowire.SizeBytes(size)))
		dst = append(dst, g.Head...)
		dst = protowire.AppendVarint(append(dst, resourceLogsScope<<3|2), uint64(size))
		dst = web.AppendText(append(dst, scope...), text, of)
	})
	return dst
}

// Fields of ExportLogsServiceResponse and ExportLogsPartialSuccess.
const (
	responsePartial = 1
	partialRejected = 1
	partialMessage  = 2
)

// Judge implements web.Format. What is refused in part must not be sent again,
// and it is not said which records are.
func (export) Judge(answer []byte, n int) (web.Verdict, error) {
	var v web.Verdict
	err := fields(answer, func(field protowire.Number, _ uint64, partial []byte) error {
		if field != responsePartial {
			return nil
		}
		return fields(partial, func(field protowire.Number, number uint64, text []byte) error {
			switch field {
			case partialRejected:
				v.Partial = int(min(number, uint64(n))) //nolint:gosec // bounded
			case partialMessage:
				v.Reason = web.Clean(text)
			}
			return nil
		})
	})
	if err != nil {
		return v, web.Misfit(web.Clean(answer), "this is no answer of the OpenTelemetry Protocol: is the collector's URL the right one?")
	}
	if v.Partial > 0 && v.Reason == "" {
		v.Reason = "no reason given"
	}
	return v, nil
}

// fields calls each with the fields of a message: varints as numbers, and what
// has a length as text.
func fields(b []byte, each func(field protowire.Number, number uint64, text []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var number uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := each(field, number, text); err != nil {
			return err
		}
	}
	return nil
}
