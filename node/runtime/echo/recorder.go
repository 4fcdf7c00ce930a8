package echo

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// statusRecorder keeps the status for the log line.
type statusRecorder struct {
	http.ResponseWriter
	status int
	last   func() bool // no other request will be answered on the connection
	said   bool        // the header was written
}

// WriteHeader says the status, and that the connection ends if it does.
func (r *statusRecorder) WriteHeader(code int) {
	if code >= http.StatusOK {
		r.status = code
		r.announce()
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *statusRecorder) Write(p []byte) (int, error) {
	r.announce()
	return r.ResponseWriter.Write(p)
}

func (r *statusRecorder) announce() {
	if !r.said && r.last() {
		r.Header().Set("Connection", "close")
	}
	r.said = true
}

// Flush is there because gRPC streams through the writer.
func (r *statusRecorder) Flush() {
	if f, ok := r.ResponseWriter.(http.Flusher); ok {
		r.announce()
		f.Flush()
	}
}

// Hijack is there because a WebSocket takes the connection over.
func (r *statusRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := r.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, fmt.Errorf("take over the connection: %w", http.ErrNotSupported)
	}
	r.status = http.StatusSwitchingProtocols
	return h.Hijack()
}

// healthService is grpc.health.v1.Health with the health of /healthz, for the service "".
type healthService struct {
	grpc_health_v1.UnimplementedHealthServer
	server *Server
}

func (h *healthService) Check(_ context.Context, request *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if request.GetService() != "" {
		return nil, status.Errorf(codes.NotFound, "unknown service %q; only the server's overall health (\"\") is known", request.GetService())
	}
	return &grpc_health_v1.HealthCheckResponse{Status: h.status()}, nil
}

func (h *healthService) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	last := grpc_health_v1.HealthCheckResponse_UNKNOWN
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		if now := h.status(); now != last {
			if err := stream.Send(&grpc_health_v1.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-h.server.closing.Done():
			return status.Error(codes.Unavailable, "the container is stopping")
		case <-ticker.C:
		}
	}
}

func (h *healthService) status() grpc_health_v1.HealthCheckResponse_ServingStatus {
	if h.server.unhealthy.Load() {
		return grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_SERVING
}
