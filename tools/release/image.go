package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An engine knows a plugin's image by its configuration's type (moby,
// plugin/fetch_linux.go).
const pluginConfig = types.MediaType("application/vnd.docker.plugin.v1+json")

// image is a plugin as registries have it: its configuration, which names the
// digest of the rootfs, and the rootfs as the one layer.
type image struct {
	config, manifest []byte
	layer            v1.Layer
}

// newImage makes one of a plugin's archive.
func newImage(archive string) (v1.Image, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	config, rootfs, err := split(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", archive, err)
	}
	plain := sha256.Sum256(rootfs)
	i := &image{}
	if i.config, err = configOf(config, "sha256:"+hex.EncodeToString(plain[:])); err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(rootfs); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	i.layer = static.NewLayer(packed.Bytes(), types.DockerLayer)
	if err := i.describe(); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(i)
}

// split returns a plugin's configuration and its rootfs as a tar of its own.
func split(archive io.Reader) (config, rootfs []byte, err error) {
	z, err := gzip.NewReader(archive)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	r, w := tar.NewReader(z), tar.NewWriter(&out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		name, below := strings.CutPrefix(h.Name, "rootfs/")
		switch {
		case h.Name == "config.json":
			if config, err = io.ReadAll(r); err != nil {
				return nil, nil, err
			}
		case below && name != "":
			h.Name = name
			if err := w.WriteHeader(h); err != nil {
				return nil, nil, err
			}
			if _, err := io.Copy(w, r); err != nil {
				return nil, nil, err
			}
		}
	}
	if config == nil {
		return nil, nil, errors.New("there is no config.json in it")
	}
	return config, out.Bytes(), w.Close()
}

// configOf is a plugin's configuration with the digest of its rootfs.
func configOf(config []byte, diffID string) ([]byte, error) {
	var all map[string]any
	if err := json.Unmarshal(config, &all); err != nil {
		return nil, fmt.Errorf("read the plugin's config.json: %w", err)
	}
	all["rootfs"] = map[string]any{"type": "layers", "diff_ids": []string{diffID}}
	return json.Marshal(all)
}

func (i *image) describe() error {
	layer, err := partial.Descriptor(i.layer)
	if err != nil {
		return err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(i.config))
	if err != nil {
		return err
	}
	i.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.DockerManifestSchema2,
		Config:        v1.Descriptor{MediaType: pluginConfig, Size: size, Digest: digest},
		Layers:        []v1.Descriptor{*layer},
	})
	return err
}

// RawConfigFile, and what follows, is a partial.CompressedImageCore's.
func (i *image) RawConfigFile() ([]byte, error) { return i.config, nil }

// RawManifest is the manifest.
func (i *image) RawManifest() ([]byte, error) { return i.manifest, nil }

// MediaType is the manifest's.
func (i *image) MediaType() (types.MediaType, error) { return types.DockerManifestSchema2, nil }

// LayerByDigest returns the rootfs.
func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if is, err := i.layer.Digest(); err != nil || is != h {
		return nil, fmt.Errorf("there is no layer %s", h)
	}
	return i.layer, nil
}
