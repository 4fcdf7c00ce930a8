package admin

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestAskWithoutServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir := t.TempDir()
	err := ask(ctx, dir, "GET", "/status", nil, nil)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "svcplane server") {
		t.Errorf("got %v", err)
	}
}
