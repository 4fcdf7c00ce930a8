package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// mountPoints lists where containers mount other volumes within this one, relative to it.
func mountPoints(pod *corev1.Pod, volume string) []string {
	var points []string
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, outer := range list[i].VolumeMounts {
				if outer.Name != volume || outer.SubPath != "" || outer.SubPathExpr != "" {
					continue
				}
				for _, inner := range list[i].VolumeMounts {
					rel, err := filepath.Rel(filepath.Clean(outer.MountPath), filepath.Clean(inner.MountPath))
					// What a subPath leads to may be a file, for which a directory is no mount point.
					if err == nil && rel != "." && filepath.IsLocal(rel) && inner.SubPath == "" && inner.SubPathExpr == "" {
						points = append(points, rel)
					}
				}
			}
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}

// makeMountPoints makes, as the kubelet does, the directories that a container could not make in a volume that is
// read-only to it.
func makeMountPoints(dir string, points []string) error {
	if len(points) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, point := range points {
		if err := root.MkdirAll(point, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making the mount point %s of another volume: %w", point, err)
		}
	}
	return nil
}
