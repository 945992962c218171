/** The deliveries of an endpoint are found by seconds instead of one by one: see slot.ts. */
export const deliverySlots = `
create table delivery_slot (
  endpoint_key text not null,
  slot text not null,
  primary key (endpoint_key, slot)
) strict, without rowid;

insert into delivery_slot (endpoint_key, slot)
select endpoint_key, substr(id, 1, 12) from done
 union
select endpoint_key, substr(id, 1, 12) from live where kind = 'single';

drop index done_of_endpoint;
`
