package otlp

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// maxAnswer bounds what an answer may become, in bytes.
const maxAnswer = 4 << 20

// zipper compresses requests as the sinks over HTTP do. It is one channel's: the
// compressors that gRPC finds by name belong to all of a process, and have to be
// there before anybody uses it.
type zipper struct{ writers sync.Pool }

// Type implements grpc.Compressor.
func (*zipper) Type() string { return "gzip" }

// Do implements grpc.Compressor.
func (g *zipper) Do(w io.Writer, p []byte) error {
	zip, again := g.writers.Get().(*gzip.Writer)
	if again {
		zip.Reset(w)
	} else {
		var err error
		if zip, err = gzip.NewWriterLevel(w, gzip.BestSpeed); err != nil {
			return err
		}
	}
	defer g.writers.Put(zip)
	_, err := zip.Write(p)
	return errors.Join(err, zip.Close())
}

// unzipper reads answers.
type unzipper struct{}

// Type implements grpc.Decompressor.
func (unzipper) Type() string { return "gzip" }

// Do implements grpc.Decompressor.
func (unzipper) Do(r io.Reader) ([]byte, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(zip, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return answer, err
}
