/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Atomics as the proofs see them: plain accesses, since each proof is about
 * one thread.  (The compiler's own header brings so many temporaries that the
 * solver drowns.)
 */
#ifndef USWITCH_PROOF_STDATOMIC_H
#define USWITCH_PROOF_STDATOMIC_H

typedef enum { memory_order_relaxed, memory_order_acquire, memory_order_release, memory_order_acq_rel,
               memory_order_seq_cst } memory_order;

#define atomic_init(p, v) ((void)(*(p) = (v)))
#define atomic_load(p) (*(p))
#define atomic_store(p, v) ((void)(*(p) = (v)))
#define atomic_load_explicit(p, order) (*(p))
#define atomic_store_explicit(p, v, order) ((void)(*(p) = (v)))
/* Only where the old value is what we subtract or add from it again. */
#define atomic_fetch_add_explicit(p, v, order) ((*(p) += (v)) - (v))
#define atomic_fetch_sub_explicit(p, v, order) ((*(p) -= (v)) + (v))
/* Used for locks alone, which nobody else holds. */
#define atomic_exchange_explicit(p, v, order) (*(p) = (v), 0)
#define atomic_compare_exchange_strong_explicit(p, expected, v, success, failure) \
    (*(p) == *(expected) ? (*(p) = (v), 1) : (*(expected) = *(p), 0))
#define atomic_compare_exchange_weak_explicit(p, expected, v, success, failure) \
    (nondet_bool() && atomic_compare_exchange_strong_explicit(p, expected, v, success, failure))
/* Nobody else is there to fail for, so a weak one that fails changes nothing. */

#define __atomic_fetch_add(p, v, order) ((*(p) += (v)) - (v))
#define __atomic_fetch_sub(p, v, order) ((*(p) -= (v)) + (v))

#endif /* USWITCH_PROOF_STDATOMIC_H */
