// Command echo is a web server on Echo. An echo.Echo is an http.Handler.
//
//	start_server --port=8080 -- echo
package main

import (
	"log"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	e := echo.New()
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "hello") })
	if err := graceful.ListenAndServe(&http.Server{Addr: ":8080", Handler: e}); err != nil {
		log.Fatal(err)
	}
}
