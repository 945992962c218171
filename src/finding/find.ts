/**
 * An event by an id alone, in a file or a database, whosever it is. For operators, who can read all of
 * it anyway; a service never asks this, so that no tenant learns what another has.
 */

import { type BesideOptions, beside } from '../storage/postgres/beside.ts'
import { findDelivery, findEvent } from '../storage/postgres/read.ts'
import { requireSchema } from '../storage/postgres/schema.ts'
import type { Session } from '../storage/postgres/session.ts'
import { fromText, toText } from '../storage/postgres/text.ts'
import type { EventFound } from '../storage/questions.ts'
import { findInFile } from '../storage/sqlite/beside.ts'

export { findInFile }

/**
 * The twin of the one in storage/sqlite/find.ts. `offset 0` keeps the look-ups apart: joined, they
 * would be one read of every id.
 */
const tenantsOfEvent = `
  with recursive tenant (id) as (
    select min(tenant_id) from kmsg.event_key
    union all
    select (select min(tenant_id) from kmsg.event_key where tenant_id > tenant.id)
      from tenant where tenant.id is not null)
  select tenant.id as tenant_id
    from tenant cross join lateral (
      select from kmsg.event_key where tenant_id = tenant.id and id = $1 offset 0) as found
   order by 1`

/**
 * @param id of an event or a delivery
 * @returns one event for each tenant that has it
 * @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER | STORAGE_UNAVAILABLE | OPTION_…
 */
export async function findInDatabase(
  url: string,
  id: string,
  options: BesideOptions,
): Promise<EventFound[]> {
  return await beside(url, options, async (database) => {
    await requireSchema(database)
    // All that these two questions use of a session.
    const session = { database } as Session
    const delivery = await findDelivery(session, id)
    const rows = delivery
      ? [{ tenant_id: toText(delivery.tenantId) }]
      : await database.read((connection) =>
          connection.all<{ tenant_id: string }>(tenantsOfEvent, toText(id)),
        )
    const found = await Promise.all(
      rows.map((row) => findEvent(session, fromText(row.tenant_id), delivery?.eventId ?? id)),
    )
    return found.filter((event) => event !== null)
  })
}
