package server

import (
	"path/filepath"

	"svcplane/node/runtime/image"
)

// RegistriesPath is where a data directory may have the file that says where images come from.
func RegistriesPath(dataDir string) string { return filepath.Join(dataDir, "registries.yaml") }

// archivesDir is where archives of images are put to be imported.
func archivesDir(dataDir string) string { return filepath.Join(dataDir, "images") }

// ImageStore is the images of a data directory. It can be read and written beside a running server.
func ImageStore(dataDir string) *image.Store {
	return image.NewStore(filepath.Join(RuntimeDir(dataDir), "images"))
}
