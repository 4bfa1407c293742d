#!/usr/bin/env bash
# MR-15: exports the Postman collection from the OpenAPI document of a running server (npm run example -- mini-rag).
# usage: scripts/export_postman.sh [server] [file]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"
exec node scripts/export-postman.ts "${1:-http://localhost:3000}/openapi.json" "${2:-docs/postman/mini-rag.postman_collection.json}"
