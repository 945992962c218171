// A CommonJS program: every entry of the package can be required (Node 20.19, 22.12 and later).
const assert = require('node:assert/strict')
const manifest = require('@k-msg/webhook/package.json')

const entries = Object.keys(manifest.exports).filter((name) => name !== './package.json')
for (const entry of entries) {
  const names = Object.keys(require(manifest.name + entry.slice(1)))
  assert.ok(names.length > 0, `${entry} exports something`)
}
assert.equal(typeof require('@k-msg/webhook/receiver').verify, 'function')
console.log(`required ${entries.length} entries`)
