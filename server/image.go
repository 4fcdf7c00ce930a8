package server

import (
	"path/filepath"

	"svcplane/node/runtime/image"
)

// ImageStore is the images of a data directory. It can be read and written beside a running server.
func ImageStore(dataDir string) *image.Store {
	return image.NewStore(filepath.Join(RuntimeDir(dataDir), "images"))
}
