/**
 * The one door to undici. Its file is named because Bun answers `import 'undici'` with a module of
 * its own that never calls a custom connector: the address guard would vanish without a word.
 * self-check.ts proves at every start that this one does.
 */
import type { Client } from 'undici/index.js'

export { type buildConnector, Client } from 'undici/index.js'

export type ClientOptions = NonNullable<ConstructorParameters<typeof Client>[1]>
