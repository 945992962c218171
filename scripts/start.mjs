// Owns `npm start`: builds when needed, then hands this process over to the live demonstration.
import { buildIfStale } from './build.mjs'

if (await buildIfStale()) console.log('built dist/')
process.argv.splice(2, 0, 'dev')
await import('../dist/cli/main.js')
