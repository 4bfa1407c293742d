#!/usr/bin/env node
// npm puts the project's own Node 24 first in PATH, so this runs the TypeScript source directly.
import '../src/cli/main.ts'
