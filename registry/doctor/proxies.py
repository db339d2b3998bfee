"""For each fault of a proxy, the line to change in the usual proxies."""

from __future__ import annotations

from typing import Final

NGINX, TRAEFIK, CADDY, BALANCER = "nginx", "Traefik", "Caddy", "load balancer"

LINES: Final[dict[str, dict[str, str]]] = {
    "upstream": {
        NGINX: "proxy_pass http://ADDRESS:PORT of KCR_LISTEN;",
        TRAEFIK: "loadbalancer.server.port: the port of KCR_LISTEN",
        CADDY: "reverse_proxy ADDRESS:PORT of KCR_LISTEN",
        BALANCER: "target group: the port of KCR_LISTEN, health check /readyz",
    },
    "host": {
        NGINX: "proxy_set_header Host $http_host;",
        TRAEFIK: "loadbalancer.passhostheader=true, and no middleware that sets Host",
        CADDY: "remove header_up Host from reverse_proxy",
        BALANCER: "preserve the Host header (AWS: routing.http.preserve_host_header.enabled=true)",
    },
    "scheme": {
        NGINX: "proxy_set_header X-Forwarded-Proto $scheme;",
        TRAEFIK: "entryPoints.NAME.forwardedHeaders.trustedIPs: the proxy before Traefik, if there is one",
        CADDY: "servers { trusted_proxies static ADDRESS } for the proxy before Caddy, if there is one",
        BALANCER: "let the listener for HTTPS end TLS and add X-Forwarded-Proto (one for TCP cannot)",
    },
    "client": {
        NGINX: "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        TRAEFIK: "remove a middleware that clears X-Forwarded-For",
        CADDY: "remove header_up X-Forwarded-For from reverse_proxy",
        BALANCER: "append X-Forwarded-For (AWS: routing.http.xff_header_processing.mode=append)",
    },
    "location": {
        NGINX: "proxy_redirect off;",
        TRAEFIK: "remove the middleware that changes Location",
        CADDY: "remove header_down Location from reverse_proxy",
        BALANCER: "remove the rule that rewrites Location",
    },
    "challenge": {
        NGINX: "remove proxy_hide_header, add_header and sub_filter for WWW-Authenticate",
        TRAEFIK: "remove the middleware that changes WWW-Authenticate, and basicAuth or forwardAuth",
        CADDY: "remove header and header_down lines for WWW-Authenticate, and basic_auth",
        BALANCER: "no sign-in and no rewriting by the load balancer below /v2/ and for /token",
    },
    "authorization": {
        NGINX: "remove proxy_set_header Authorization and auth_basic below /v2/",
        TRAEFIK: "remove basicAuth and forwardAuth from the router",
        CADDY: "remove basic_auth, forward_auth and header_up Authorization",
        BALANCER: "no sign-in by the load balancer below /v2/",
    },
    "body-size": {
        NGINX: "client_max_body_size 0; in location /v2/",
        TRAEFIK: "remove the middleware buffering (maxRequestBodyBytes) from the router",
        CADDY: "remove request_body { max_size }",
        BALANCER: "no limit of bodies below /v2/, nor in a web application firewall before it",
    },
    "request-buffering": {
        NGINX: "proxy_request_buffering off; and proxy_http_version 1.1; in location /v2/",
        TRAEFIK: "remove the middleware buffering from the router",
        CADDY: "remove request_buffers from reverse_proxy",
        BALANCER: "turn off buffering of requests (HAProxy: remove option http-buffer-request)",
    },
    "response-buffering": {
        NGINX: "proxy_buffering off; in location /v2/",
        TRAEFIK: "remove the middleware buffering from the router",
        CADDY: "remove response_buffers, and set flush_interval -1 in reverse_proxy",
        BALANCER: "turn off buffering of responses",
    },
    "idle": {
        NGINX: "proxy_read_timeout 900s; and proxy_send_timeout 300s; in location /v2/",
        TRAEFIK: "serversTransport.forwardingTimeouts.responseHeaderTimeout=0s and"
        " entryPoints.NAME.transport.respondingTimeouts.readTimeout=0s",
        CADDY: "remove read_timeout and response_header_timeout from transport http",
        BALANCER: "an idle timeout of 900 s (AWS: idle_timeout.timeout_seconds=900; HAProxy: timeout server 900s)",
    },
    "ranges": {
        NGINX: "remove proxy_cache and proxy_set_header Range from location /v2/",
        TRAEFIK: "remove middlewares that change Range from the router",
        CADDY: "remove header_up Range and caches from reverse_proxy",
        BALANCER: "no cache and no rule for Range below /v2/",
    },
    "compression": {
        NGINX: "gzip off; in location /v2/",
        TRAEFIK: "remove the middleware compress from the router of /v2/",
        CADDY: "encode with a matcher that leaves out /v2/*",
        BALANCER: "turn off compression below /v2/",
    },
    "project-hosts": {
        NGINX: "server_name REGISTRY *.REGION.DOMAIN; and a certificate for both",
        TRAEFIK: "rule: Host(`REGISTRY`) || HostRegexp(`^[a-z0-9-]+[.]REGION[.]DOMAIN$`)",
        CADDY: "REGISTRY, *.REGION.DOMAIN { … }",
        BALANCER: "a rule and a certificate for *.REGION.DOMAIN",
    },
    "certificate": {
        NGINX: "ssl_certificate: the whole chain, then nginx -s reload",
        TRAEFIK: "certificatesResolvers, or tls.certificates with the whole chain",
        CADDY: "tls CERTIFICATE KEY, or let Caddy renew it (ports 80 and 443 reachable)",
        BALANCER: "attach the renewed certificate to the listener",
    },
}
