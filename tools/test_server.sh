#!/usr/bin/env bash
# Starts `lapidary serve` on the small trained model and drives it with the official clients of
# OpenAI and Anthropic: once as it is, once over TLS with an API key. Twenty seconds.
source "$(dirname "$0")/server_client.sh"
install_clients || {
  echo "the clients' packages cannot be installed: the server's client tests are skipped" >&2
  exit 0
}
make_model

start_server --adapter "tuned=$root/tests/data/nano-e/reference/lora_final"
python3 "$root/tools/test_server.py" "$url"
stop_server

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
  -addext subjectAltName=IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
echo secret >"$work/keys"
start_server --tls-cert "$work/cert.pem" --tls-key "$work/key.pem" --api-key-file "$work/keys" --draft 4
SSL_CERT_FILE=$work/cert.pem python3 "$root/tools/test_server.py" "$url" secret
stop_server
