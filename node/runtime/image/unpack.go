package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// unpack checks an image against its own digests and unpacks the layers that are not there yet.
func (s *Store) unpack(ctx context.Context, source v1.Image, work string) (Image, error) {
	manifest, err := source.Manifest()
	if err != nil {
		return Image{}, fmt.Errorf("read the manifest: %w", err)
	}
	rawConfig, err := source.RawConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("read the config: %w", err)
	}
	if err := verify("config", rawConfig, manifest.Config.Digest); err != nil {
		return Image{}, err
	}
	config, err := source.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("read the config: %w", err)
	}
	layers, err := source.Layers()
	if err != nil {
		return Image{}, fmt.Errorf("read the layers: %w", err)
	}
	if err := checkConfig(config, len(layers)); err != nil {
		return Image{}, err
	}
	if _, err := s.replaceRaw(s.configPath(manifest.Config.Digest.Hex), rawConfig); err != nil {
		return Image{}, fmt.Errorf("keep the config: %w", err)
	}
	img := Image{ID: manifest.Config.Digest.String(), Imported: time.Now(), Config: Config{
		Env: config.Config.Env, Entrypoint: config.Config.Entrypoint, Cmd: config.Config.Cmd,
		WorkingDir: config.Config.WorkingDir, User: config.Config.User,
	}}
	for i, layer := range layers {
		dir, err := s.unpackLayer(ctx, layer, config.RootFS.DiffIDs[i], work)
		if err != nil {
			return Image{}, fmt.Errorf("layer %d of %d (%s): %w", i+1, len(layers), config.RootFS.DiffIDs[i], err)
		}
		img.Layers = append(img.Layers, dir)
		size, err := layer.Size()
		if err != nil {
			return Image{}, fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
		img.Size += size
	}
	return img, nil
}

// What Linux lets a program have of arguments and environment: one of them, and all (execve(2)).
const maxWord, maxWords = 128<<10 - 1, 1 << 20

// checkWords refuses what no program can be started with.
func checkWords(config *v1.Config) error {
	all := 0
	for what, words := range map[string][]string{
		"entrypoint": config.Entrypoint, "command": config.Cmd, "environment": config.Env, "working directory": {config.WorkingDir}, "user": {config.User},
	} {
		for _, word := range words {
			all += len(word)
			switch {
			case strings.ContainsRune(word, 0):
				return fmt.Errorf("the config's %s has a zero byte in it: %.60q", what, word)
			case len(word) > maxWord:
				return fmt.Errorf("the config's %s has a word of %d bytes, and no program gets more than %d", what, len(word), maxWord)
			}
		}
	}
	if all > maxWords {
		return fmt.Errorf("the config's environment and command are %d bytes long, and no program gets more than %d", all, maxWords)
	}
	for _, v := range config.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return fmt.Errorf("the config's environment has %.60q, which is not NAME=VALUE", v)
		}
	}
	return nil
}

func checkConfig(config *v1.ConfigFile, layers int) error {
	if err := checkWords(&config.Config); err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != layers {
		return fmt.Errorf("the config lists %d layers and the manifest %d; make the archive again", len(config.RootFS.DiffIDs), layers)
	}
	if layers == 0 {
		return errors.New("the image has no layers, so there is nothing to run")
	}
	if config.OS != "" && config.OS != "linux" || config.Architecture != "" && config.Architecture != runtime.GOARCH {
		return fmt.Errorf("the image is for %s/%s; this machine needs linux/%s", config.OS, config.Architecture, runtime.GOARCH)
	}
	return nil
}

// unpackLayer gives the directory of a layer, unpacking it aside first if it is not there.
func (s *Store) unpackLayer(ctx context.Context, layer v1.Layer, diffID v1.Hash, work string) (string, error) {
	if diffID.Algorithm != "sha256" || len(diffID.Hex) != 64 || !filepath.IsLocal(diffID.Hex) {
		return "", fmt.Errorf("digest %s: only sha256 is known", diffID)
	}
	for _, dir := range s.layerDirs(diffID) {
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for the layer: %w", err)
		}
	}
	dir, plain := s.layerDir(diffID.Hex), !canWhiteout(work)
	if plain {
		dir += plainSuffix
	}
	content, err := layer.Uncompressed()
	if err != nil {
		return "", fmt.Errorf("read: %w", err)
	}
	defer content.Close()
	aside := filepath.Join(work, filepath.Base(dir))
	if err := unpackVerified(until{ctx, content}, aside, plain, diffID); err != nil {
		os.RemoveAll(aside) // at once: the disk may be full of it
		return "", err
	}
	err = os.Rename(keptPath(aside), keptPath(dir))
	if err == nil || errors.Is(err, fs.ErrNotExist) { // it is not always kept
		err = os.Rename(aside, dir)
	}
	if err != nil {
		return "", fmt.Errorf("store the layer: %w", err)
	}
	return dir, nil
}
