#!/bin/sh
# Makes ../outputs/*.txt and ../odd/* anew: what real programs print. It wants python3, a
# JDK, node, go, nginx and curl, and writes to /app, so that the paths in the traces
# are a container's.
set -eu
cd "$(dirname "$0")"
out=$(realpath ../outputs)
odd=$(realpath ../odd)
mkdir /app
trap 'rm -rf /app' EXIT
cp -r app.py App.java app.js panics /app
cd /app

# What is hard on a log driver: garbage, CRLF, NULs, colours, no newline at the
# end, a line of 10 MiB (compressed).
head -c 4000 /dev/urandom >"$odd/garbage"
python3 -m http.server -b 127.0.0.1 8090 >/dev/null 2>&1 &
server=$!
curl -si --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8090/none >"$odd/crlf"
curl -s -w '%{http_code} %{content_type}' http://127.0.0.1:8090/app.py >"$odd/no-newline"
kill "$server"
{ env -i LANG=C GREETING='hello world' env -0; printf '\nbehind\0\n'; } >"$odd/nul"
ls --color=always -R /app >"$odd/ansi"
grep --color=always -n raise app.py >>"$odd/ansi"
node -e 'console.dir({ level: "warn", user: { id: 7, mail: null }, when: [1, "two"] }, { colors: true, depth: 9 })' >>"$odd/ansi"
python3 -c 'import json; print(json.dumps({"level": "info", "msg": "long €\n" * (10 * 2**20 // 10)}, ensure_ascii=False))' | gzip -9n >"$odd/long.gz"
python3 app.py 2>"$out/python.txt" || true
javac App.java
java -Djava.util.logging.SimpleFormatter.format='2026-01-02 03:04:05 %4$s %5$s%6$s%n' -cp /app App 2>"$out/java.txt" || true
node app.js 2>"$out/node.txt" || true
node app.js reject 2>"$out/node-reject.txt" || true
node -e 'function f() { null.x } f()' 2>"$out/node-eval.txt" || true
CGO_ENABLED=0 go build -trimpath -o panic panics/main.go
for how in nilmap error again segv deadlock deep http; do
	./panic $how 2>"$out/go-$how.txt" || true
done
sed -i 's/127\.0\.0\.1:[0-9]*/127.0.0.1:40000/' "$out/go-http.txt"

cat >nginx.conf <<'C'
daemon off;
pid /app/nginx.pid;
error_log /app/error.log notice;
events {}
http {
	client_body_temp_path /app/t1;
	proxy_temp_path /app/t2;
	fastcgi_temp_path /app/t3;
	uwsgi_temp_path /app/t4;
	scgi_temp_path /app/t5;
	access_log /app/access.log combined;
	server {
		listen 127.0.0.1:8089;
		location / { return 200 "hello\n"; }
		location /gone { return 410; }
		location /private { auth_basic shop; auth_basic_user_file /app/none; return 200; }
	}
}
C
${NGINX_BIN:-nginx} -p /app -c /app/nginx.conf &
curl -s -o /dev/null --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8089/
curl -s -o /dev/null 'http://127.0.0.1:8089/search?q=a%20b&mail=eve@example.org'
curl -s -o /dev/null -A 'Mozilla/5.0 (X11; "quoted")' -e 'https://shop.example/cart' http://127.0.0.1:8089/gone
curl -s -o /dev/null -u bob:secret http://127.0.0.1:8089/private
curl -s -o /dev/null -X POST -d x http://127.0.0.1:8089/%FF%00
python3 -c 'import socket
s = socket.create_connection(("127.0.0.1", 8089))
s.sendall(b"\x16\x03\x01 not http\r\n\r\n")
s.recv(100)'
kill -QUIT "$(cat nginx.pid)"
wait
cp access.log "$out/nginx-access.txt"
