package otlp

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// leastTooLarge is the smallest message that may be refused for its size, in bytes.
const leastTooLarge = 16 << 10

// judge says what a status means for a request of so many bytes (OTLP
// specification, "OTLP/gRPC Response", "Failures"). What may never be sent again
// as it is, is taken apart, so that only the records that are meant are given up.
//
// The collector has taken a message of so many bytes as well.
func judge(s *status.Status, bytes, taken int) *web.Reply {
	after, told := retryAfter(s)
	r := &web.Reply{Said: said(s), After: after}
	switch s.Code() {
	case codes.Unavailable:
		r.Err = &web.Error{Said: r.Said, Busy: true, After: after}
	case codes.ResourceExhausted:
		// Without a RetryInfo it will never take this; but what is as small, or as what
		// it took before, can only be too much for now.
		if told || bytes < leastTooLarge || bytes <= taken {
			r.Err = &web.Error{Said: r.Said, Busy: true, After: after}
		} else {
			r.Class, r.Smaller = web.TooLarge, true
		}
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.DataLoss:
		r.Err = &web.Error{Said: r.Said, After: after}
	case codes.Unauthenticated:
		r.Err = web.Misfit(r.Said, "it wants another user, password or token than the collector's URL names, or any at all")
	case codes.PermissionDenied:
		r.Err = web.Misfit(r.Said, "the user or token of the collector's URL is not allowed to write there")
	case codes.Unimplemented:
		r.Err = web.Misfit(r.Said, "it takes no logs by gRPC, or not compressed: is there a pipeline for logs, is the port that of OTLP/gRPC, and does it know the URL's compress?")
	case codes.NotFound:
		r.Err = web.Misfit(r.Said, "the collector's URL does not fit this collector")
	default: // invalid, or the collector's own fault, which the specification takes for the request's
		r.Class, r.Doubtful = web.Invalid, s.Code() != codes.InvalidArgument
	}
	return r
}

// said is the status on one line.
func said(s *status.Status) string {
	text := s.Code().String()
	if message := web.Clean([]byte(s.Message())); message != "" {
		text = fmt.Sprintf("%s: %s", text, message)
	}
	return text
}

// retryAfter reads a RetryInfo, and reports whether there is one.
func retryAfter(s *status.Status) (time.Duration, bool) {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return max(0, info.GetRetryDelay().AsDuration()), true
		}
	}
	return 0, false
}
