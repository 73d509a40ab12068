// One hop of Go's httputil.ReverseProxy: the peer for exec, which the Go tunnel cannot do.
// go-proxy LISTEN UPSTREAM_URL CERTIFICATE KEY UPSTREAM_CA
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	upstream, err := url.Parse(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	authority, err := os.ReadFile(os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	// ForceAttemptHTTP2 stays off: an upgrade needs HTTP/1.1 upstream.
	proxy.Transport = &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool},
		MaxIdleConnsPerHost: 512,
		DisableCompression:  true,
	}
	proxy.FlushInterval = -1
	server := &http.Server{Addr: os.Args[1], Handler: proxy}
	log.Fatal(server.ListenAndServeTLS(os.Args[3], os.Args[4]))
}
