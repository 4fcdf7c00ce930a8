package node

import (
	"bytes"
	"context"

	"k8s.io/cri-client/pkg/logs"
	"k8s.io/utils/ptr"
)

// lastLogLines reads the end of a container's log.
func lastLogLines(path string, bytesLimit, lines int64) string {
	if path == "" {
		return ""
	}
	var out bytes.Buffer
	options := &logs.LogOptions{TailLines: ptr.To(lines)}
	// It does not follow, so it asks no runtime.
	if err := logs.ReadLogs(context.Background(), path, "", options, nil, &out, &out); err != nil {
		return ""
	}
	text := out.Bytes()
	return string(text[max(0, len(text)-int(bytesLimit)):])
}
