// Command gin is a web server on Gin. A gin.Engine is an http.Handler; with UseH2C, its Handler is.
//
//	start_server --port=8080 -- gin
package main

import (
	"log"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(gin.Recovery())
	engine.UseH2C = true // HTTP/2 without TLS as well, for proxies
	engine.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "hello") })
	engine.POST("/", func(c *gin.Context) { c.String(http.StatusOK, "hello") })
	if err := graceful.ListenAndServe(&http.Server{Addr: ":8080", Handler: engine.Handler()}); err != nil {
		log.Fatal(err)
	}
}
