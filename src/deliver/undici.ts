/**
 * The one door to undici. Its file is named because Bun answers `import 'undici'` with a module of
 * its own that never calls a custom connector: the address guard would vanish without a word.
 */
export { buildConnector, Client } from 'undici/index.js'
