"""Who is here: workers, their targets, and where visitors come in.

- Workers: registry (all of them), worker (one), session (one of its sessions), life (signs of it), tenants (its user).
- From a message to a mapping: registration (a few a turn), terms (options), offer (may it), asking (the hook), ports/
  (which port), mappings (all of them), mapping (one), doors/ (where its visitors come in).
- Several mappings: group (one port), pool (one name at the mux), domains (host names).
- Whether a visitor may: admission, opening (access=closed), quotas; how fast: rates, arrears.
- While a worker is away: away, lobby. What operators add: additions.
"""
