#!/usr/bin/env bash
# Loads a server with many clients at once, some of which leave, and compares every answer with the
# one its request gets alone:  tools/soak.sh [SECONDS (300)] [CLIENTS (8)]
# LAPIDARY names another binary, as one built with sanitizers.
source "$(dirname "$0")/server_client.sh"
make_model
# A small prefix cache is full soon: what is kept then changes all the time.
start_server --adapter "tuned=$root/tests/data/nano-e/reference/lora_final" --parallel 6 --prefix-cache 4MiB --draft 4
python3 "$root/tools/soak.py" "$url" "${1:-300}" "${2:-8}" $server
stop_server
