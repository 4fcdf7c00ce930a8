package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// bytesCodec sends messages as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}
func (bytesCodec) Name() string { return "bytes" }

// grpcEcho sends back each message, with what the client said in its metadata, until the client has no more or goes away.
func grpcEcho(ended chan<- error) grpc.StreamHandler {
	return func(_ any, s grpc.ServerStream) error {
		said, _ := metadata.FromIncomingContext(s.Context())
		if err := s.SendHeader(metadata.Pairs("heard", fmt.Sprint(said["say"]))); err != nil {
			return err
		}
		n := 0
		for ; ; n++ {
			var m []byte
			err := s.RecvMsg(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = s.SendMsg(&m)
			}
			if err != nil {
				ended <- s.Context().Err()
				return err
			}
		}
		s.SetTrailer(metadata.Pairs("count", fmt.Sprint(n)))
		return status.Error(codes.Aborted, "the end")
	}
}

// TestGRPCStreams: both directions at once through TLS and without, much more than the windows; metadata, trailers, status
// and the end of a client's interest arrive.
func TestGRPCStreams(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	s := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(grpcEcho(ended)))
	go func() { _ = s.Serve(l) }() // ends with Stop
	defer s.Stop()
	w := newWorld(t, serviceSpeaking("grpc", "kubernetes.io/h2c"), slice("grpc", addrOf(l)), toService("grpc"))
	for _, test := range []struct {
		name, addr string
		creds      credentials.TransportCredentials
	}{{"plain", w.plain, insecure.NewCredentials()}, {"TLS", w.secure, credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "grpc"})}} {
		t.Run(test.name, func(t *testing.T) {
			c, err := grpc.NewClient(test.addr, grpc.WithTransportCredentials(test.creds), grpc.WithAuthority("grpc"), grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
			w.must(err)
			defer c.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
			stream, err := c.NewStream(metadata.AppendToOutgoingContext(ctx, "say", "hello"), desc, "/test/Echo")
			w.must(err)
			head, err := stream.Header()
			if err != nil || fmt.Sprint(head["heard"]) != "[[hello]]" {
				t.Errorf("header %v %v", head, err)
			}
			const n = 300
			go func() {
				for i := range n {
					m := bytes.Repeat([]byte{byte(i)}, i*100)
					if err := stream.SendMsg(&m); err != nil {
						t.Error(err)
					}
				}
				if err := stream.CloseSend(); err != nil {
					t.Error(err)
				}
			}()
			for i := range n {
				var m []byte
				if err := stream.RecvMsg(&m); err != nil || !bytes.Equal(m, bytes.Repeat([]byte{byte(i)}, i*100)) {
					t.Fatalf("message %d: %d bytes, %v", i, len(m), err)
				}
			}
			var m []byte
			if err := stream.RecvMsg(&m); status.Code(err) != codes.Aborted || fmt.Sprint(stream.Trailer()["count"]) != "[300]" {
				t.Errorf("the end: %v %v", err, stream.Trailer())
			}
			stream, err = c.NewStream(ctx, desc, "/test/Echo")
			w.must(err)
			_, err = stream.Header() // it has begun
			w.must(err)
			cancel()
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("the server heard %v", err)
				}
			case <-time.After(15 * time.Second):
				t.Error("the server did not hear that the client went away")
			}
		})
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	h := health.NewServer()
	h.SetServingStatus("toad", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, h)
	go func() { _ = s.Serve(l) }() // ends with Stop
	defer s.Stop()
	w := newWorld(t, serviceSpeaking("grpc", "kubernetes.io/h2c"), slice("grpc", addrOf(l)), toService("grpc"))
	c, err := grpc.NewClient(w.plain, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("grpc"))
	w.must(err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	client := grpc_health_v1.NewHealthClient(c)
	resp, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "toad"})
	if err != nil || resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("unary: %v, %v", resp, err)
	}
	// a status other than OK travels in the trailers
	if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "none"}); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("unknown service: %v", err)
	}
	stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "toad"})
	w.must(err)
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING} {
		got, err := stream.Recv()
		if err != nil || got.Status != want {
			t.Fatalf("stream: %v, %v; want %v", got, err, want)
		}
		h.SetServingStatus("toad", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	}
}
