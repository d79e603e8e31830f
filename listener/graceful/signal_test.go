//go:build unix

package graceful

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The whole of it: an inherited socket, a certificate from files, readiness and signals to the
// process.
func TestListenAndServeTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inherited, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	setenv(t, "SERVER_STARTER_PORT", fmt.Sprintf("%s=%d", l.Addr(), inherited.Fd()))

	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	setenv(t, "NOTIFY_SOCKET", notify.LocalAddr().String())

	site := httptest.NewTLSServer(nil)
	defer site.Close()
	cert, key := certificateFiles(t, site)
	ended := make(chan error)
	go func() {
		ended <- ListenAndServeTLS(&http.Server{Handler: newGate()}, cert, key)
	}()

	word := make([]byte, 64)
	if n, err := notify.Read(word); err != nil || string(word[:n]) != "READY=1" {
		t.Fatalf("%q, %v", word[:n], err)
	}
	get := func() {
		t.Helper()
		response, err := site.Client().Get("https://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Close {
			t.Errorf("%s, close %v", response.Status, response.Close)
		}
	}
	get()
	syscall.Kill(os.Getpid(), syscall.SIGINT) // Ctrl-C: TERM follows, from start_server
	get()
	site.Client().CloseIdleConnections()
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
}

// certificateFiles writes what the test server uses.
func certificateFiles(t *testing.T, site *httptest.Server) (cert, key string) {
	t.Helper()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(site.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("cert.pem", "CERTIFICATE", site.Certificate().Raw), write("key.pem", "PRIVATE KEY", der)
}

func TestCertificateOfTheConfig(t *testing.T) {
	site := httptest.NewTLSServer(nil)
	defer site.Close()
	srv := &http.Server{TLSConfig: site.TLS}
	if err := loadCertificate(srv, "", ""); err != nil || srv.TLSConfig != site.TLS {
		t.Error(err)
	}
	cert, key := certificateFiles(t, site)
	if err := loadCertificate(srv, cert, key); err != nil || srv.TLSConfig == site.TLS {
		t.Error("the files do not come first, or the user's configuration was changed", err)
	}
	if err := loadCertificate(&http.Server{}, "", ""); err == nil {
		t.Error("no certificate, no error")
	}
}
