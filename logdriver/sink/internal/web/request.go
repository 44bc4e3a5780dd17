package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"

	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	maxAnswer  = 32 << 20 // of what is read of an answer, in bytes
	maxHeaders = 64 << 10
	sendBuffer = 64 << 10
)

// reply is what the collector answered.
type reply struct {
	status int
	body   []byte
	after  time.Duration // that it wants to be left alone for
	hide   func(string) string
}

// poster sends requests, one at a time, of one connection's many.
type poster struct {
	conn   *Conn
	raw    []byte
	packed []byte
	answer bytes.Buffer
	zip    *gzip.Writer
}

// post sends records and returns the answer, which is the poster's until it is
// called again.
func (p *poster) post(ctx context.Context, text []byte, records []Record) (*Reply, error) {
	p.raw = p.conn.collector.Format.Body(p.raw[:0], text, records)
	return p.postBody(ctx, p.raw)
}

func (p *poster) postBody(ctx context.Context, raw []byte) (*Reply, error) {
	c, body := p.conn.collector, raw
	if p.conn.carrier != nil {
		r, err := p.conn.carrier.Post(ctx, body)
		if err != nil {
			return nil, p.reason(ctx, err)
		}
		return r, nil
	}
	switch c.encoding {
	case "snappy":
		p.packed = s2.EncodeSnappy(p.packed[:cap(p.packed)], raw)
		body = p.packed
	case "gzip":
		if err := p.compress(raw); err != nil {
			return nil, err
		}
		body = p.packed
	}
	r, err := p.send(ctx, body)
	if err != nil {
		return nil, err
	}
	return r.judged(c), nil
}

func (p *poster) compress(raw []byte) (err error) {
	if p.zip == nil {
		if p.zip, err = gzip.NewWriterLevel(nil, gzip.BestSpeed); err != nil {
			return err
		}
	}
	out := bytes.NewBuffer(p.packed[:0])
	p.zip.Reset(out)
	_, err = p.zip.Write(raw)
	if err = errors.Join(err, p.zip.Close()); err != nil {
		return fmt.Errorf("compress a batch: %w", err)
	}
	p.packed = out.Bytes()
	return nil
}

// send gives up when nothing has moved for as long as the collector's timeout.
func (p *poster) send(ctx context.Context, body []byte) (*reply, error) {
	c := p.conn.collector
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(c.Timeout, func() { cancel(&wire.StalledError{For: c.Timeout}) })
	defer watch.Stop()
	moved := func() { watch.Reset(c.Timeout) }
	upload := &upload{data: body, moved: moved}
	defer upload.end()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://collector"+c.path, upload)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Host, req.ContentLength = c.authority, int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { upload.rewind(); return upload, nil }
	req.Header = p.conn.header.Clone()
	resp, err := p.conn.client.Do(req)
	if err != nil {
		return nil, p.reason(ctx, err)
	}
	defer resp.Body.Close()
	p.answer.Reset()
	_, err = io.Copy(&p.answer, io.LimitReader(&download{resp.Body, moved}, maxAnswer+1))
	if err != nil {
		return nil, p.reason(ctx, err)
	}
	if p.answer.Len() > maxAnswer {
		return nil, fmt.Errorf("collector's answer is longer than %d bytes", maxAnswer)
	}
	return &reply{resp.StatusCode, p.answer.Bytes(), retryAfter(resp.Header, time.Now()), p.conn.hide}, nil
}

// reason takes from an error what is only HTTP's.
func (p *poster) reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		return cause
	}
	if told := p.conn.distrust.Load(); told != nil {
		return fmt.Errorf("send a batch: %w", told)
	}
	if at := new(url.Error); errors.As(err, &at) {
		err = at.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = wire.ErrPeerClosed
	}
	return fmt.Errorf("send a batch: %w", err)
}

// upload is the body of one request. The transport may read it after an answer
// has come, but not after end.
type upload struct {
	moved func()
	mu    sync.Mutex // guards what follows
	data  []byte
	at    int
	over  bool
}

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return 0, net.ErrClosed
	}
	if u.at == len(u.data) {
		return 0, io.EOF
	}
	n := copy(p, u.data[u.at:])
	u.at += n
	u.moved()
	return n, nil
}

func (u *upload) Close() error { return nil }

func (u *upload) rewind() { u.mu.Lock(); defer u.mu.Unlock(); u.at = 0 }

func (u *upload) end() { u.mu.Lock(); defer u.mu.Unlock(); u.over, u.data = true, nil }

type download struct {
	io.Reader
	moved func()
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if n > 0 {
		d.moved()
	}
	return n, err
}
