/* The exchange in C: the rules of zmqlab.market, from packed commands to packed reports and fills.
 *
 * The Python exchange (exchange.py, market_state.py, book.py) is the reference: this file does the same, command by
 * command, and the tests compare both with the naive exchange and with each other. Read those modules for the rules;
 * here are the data structures. It knows two layouts of bytes: the records of zmqlab.wire.records and the canonical
 * state of canonical.py. Both are little-endian, and so is every machine that this file compiles on.
 *
 * Theory of operation. No command may take long because the exchange is large, so nothing here grows by being copied:
 *
 * - Orders, levels, books and tallies live in pools of small chunks. A pool grows by one chunk. A *slot* is a place in
 *   a pool, and all links are slots.
 * - An order is split. What a snapshot needs of it (struct order, with the link to the order that arrived after it) can
 *   be shared with frozen states. All else (struct place) belongs to the living state alone.
 * - Open orders are found by a linear hash table (Litwin 1980): each insertion splits at most one bucket.
 * - A level is a doubly linked queue of orders, oldest first. A cancel unlinks its order; there are no dead orders.
 * - A side keeps its levels sorted, the best one last, in blocks of at most 256, as a B+ tree of two levels. The best
 *   level is read and closed in constant time.
 *
 * Freezing takes a reference to each chunk of orders, and no copy. The first change of an order in a shared chunk
 * copies that chunk, 10 KB (copy on write). The frozen state walks the order of arrival as it was.
 *
 * When memory runs out, a command raises MemoryError. Then the books are sound, but the command may be carried out in
 * part, so the state is of no more use, as after a MemoryError in Python. If a shared chunk can't be copied, the frozen
 * states pay: they raise MemoryError when they come to that chunk.
 *
 * Left out on purpose: objects for people (compiled_exchange.py makes them) and giving memory back while orders go: the
 * pools keep the size of the fullest moment, about 100 bytes an order.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the layouts of records are little-endian; the Python exchange runs everywhere"
#endif

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

/* The vocabulary of types.py. */
enum { KIND_NEW = 1, KIND_CANCEL = 2, KIND_REPLACE = 3 };
enum { BUY = 1, SELL = 2 };
enum { LIMIT = 1, MARKET = 2 };
enum { GTC = 1, IOC = 2, FOK = 3 };
enum { RESTS = 1, PARTIALLY_FILLED, FILLED, CANCELED, REPLACED, REJECTED, EXPIRED };
enum {
    NO_REASON, UNKNOWN_ORDER, BAD_QUANTITY, BAD_PRICE, BAD_SYMBOL, BAD_SIDE, BAD_TYPE, WOULD_CROSS, WOULD_NOT_FILL,
    NO_LIQUIDITY, SELF_TRADE, TOO_MANY_ORDERS, TOO_MANY_SYMBOLS, UNKNOWN_COMMAND, TOO_MANY_ACCOUNT_ORDERS,
    TOO_MANY_SESSION_ORDERS, TOO_MANY_ACCOUNT_SYMBOLS, TOO_MANY_SESSION_SYMBOLS, UNUSED_FIELD
};
enum { POST_ONLY = 1, TAPE_LENGTH = 64 };
#define MAX_PRICE 2000000000
#define MAX_QUANTITY 2000000000u
#define NO_LIMIT (MAX_PRICE + 1) /* of a market order: above every key */
#define NO_LEVEL (MAX_PRICE + 2) /* the best key of an empty side: above every limit */

/* Widths of records, and of the parts of the canonical state. */
enum { COMMAND_SIZE = 40, REPORT_SIZE = 32, FILL_SIZE = 24 };
enum { HEADER_SIZE = 28, SYMBOL_SIZE = 24, TRADE_SIZE = 24, ORDER_SIZE = 36 };

#define NOWHERE UINT32_MAX /* no slot */
#define CHUNK_BITS 8
#define CHUNK (1u << CHUNK_BITS)
#define BLOCK_MAX 256u /* levels in one block of a side */
#define SEGMENT 1024u  /* buckets in one segment of an index */
#define KEPT_FILLS (1u << 20) /* bytes of the buffer of fills that are kept for the next request */

static uint32_t get32(const char *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static int32_t get32s(const char *p) { int32_t v; memcpy(&v, p, 4); return v; }
static uint64_t get64(const char *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static int64_t get64s(const char *p) { int64_t v; memcpy(&v, p, 8); return v; }
static void put32(char *p, uint32_t v) { memcpy(p, &v, 4); }
static void put64(char *p, uint64_t v) { memcpy(p, &v, 8); }

/* ---- Pools: elements in chunks, found by slot. Every element begins with a node. ---- */

struct node {
    uint64_t key;  /* what an index finds it by */
    uint32_t link; /* the next one in its bucket; of a free element, the next free one */
};

struct pool {
    char **chunks;
    size_t size; /* of an element */
    uint32_t count, room; /* of chunks */
    uint32_t free; /* the first free slot */
};

static struct node *node_at(const struct pool *pool, uint32_t slot)
{
    return (struct node *)(pool->chunks[slot >> CHUNK_BITS] + (size_t)(slot & (CHUNK - 1)) * pool->size);
}

/* Room for one more pointer in the array that `array` points to, which grows by doubling. A million orders are 4,096
 * pointers. */
static int more_pointers(void *array, uint32_t count, uint32_t *room)
{
    if (count < *room)
        return 0;
    uint32_t wanted = *room ? *room * 2 : 4;
    void *old, *larger;
    memcpy(&old, array, sizeof old); /* the array is of pointers to any type */
    larger = realloc(old, wanted * sizeof old);
    if (!larger)
        return -1;
    memcpy(array, &larger, sizeof larger);
    *room = wanted;
    return 0;
}

static int pool_grow(struct pool *pool)
{
    if (pool->count >= NOWHERE >> CHUNK_BITS || more_pointers(&pool->chunks, pool->count, &pool->room) < 0)
        return -1;
    char *chunk = calloc(CHUNK, pool->size);
    if (!chunk)
        return -1;
    uint32_t first = pool->count << CHUNK_BITS;
    pool->chunks[pool->count++] = chunk;
    for (uint32_t slot = first + CHUNK; slot-- > first;) {
        node_at(pool, slot)->link = pool->free;
        pool->free = slot;
    }
    return 0;
}

/* A slot, or NOWHERE if memory has run out. */
static uint32_t pool_take(struct pool *pool)
{
    if (pool->free == NOWHERE && pool_grow(pool) < 0)
        return NOWHERE;
    uint32_t slot = pool->free;
    pool->free = node_at(pool, slot)->link;
    return slot;
}

static void pool_give(struct pool *pool, uint32_t slot)
{
    struct node *node = node_at(pool, slot);
    node->key = 0;
    node->link = pool->free;
    pool->free = slot;
}

static void pool_clear(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->count; i++)
        free(pool->chunks[i]);
    free(pool->chunks);
    pool->chunks = NULL;
    pool->count = pool->room = 0;
    pool->free = NOWHERE;
}

/* ---- Indexes: the elements of a pool by their keys. ---- */

struct index {
    uint32_t **segments;
    uint32_t segment_count, room;
    uint32_t buckets; /* in use: base <= buckets < 2 * base */
    uint32_t base;    /* a power of two */
    uint32_t count;   /* of elements */
    uint32_t is_of_ids; /* its keys come from a counter */
};

/* Ids of orders come from a counter: their own low bits spread them evenly, and neighbours share a cache line, which
 * makes restoring more than three times faster. Other keys are mixed. */
static uint32_t hash_of(const struct index *index, uint64_t key)
{
    return index->is_of_ids ? (uint32_t)key : (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

static uint32_t bucket_of(const struct index *index, uint64_t key)
{
    uint32_t hash = hash_of(index, key), bucket = hash & (2 * index->base - 1);
    return bucket < index->buckets ? bucket : hash & (index->base - 1);
}

static uint32_t *head_of(const struct index *index, uint32_t bucket)
{
    return &index->segments[bucket / SEGMENT][bucket % SEGMENT];
}

static int more_buckets(struct index *index)
{
    if (more_pointers(&index->segments, index->segment_count, &index->room) < 0)
        return -1;
    uint32_t *segment = malloc(SEGMENT * sizeof *segment);
    if (!segment)
        return -1;
    memset(segment, 0xff, SEGMENT * sizeof *segment); /* NOWHERE */
    index->segments[index->segment_count++] = segment;
    return 0;
}

/* An index has buckets before the first insertion. */
static int index_begin(struct index *index)
{
    if (index->segment_count)
        return 0;
    if (more_buckets(index) < 0)
        return -1;
    index->buckets = index->base = SEGMENT;
    return 0;
}

static uint32_t index_find(const struct index *index, const struct pool *pool, uint64_t key)
{
    if (!index->count)
        return NOWHERE;
    uint32_t slot = *head_of(index, bucket_of(index, key));
    while (slot != NOWHERE) {
        const struct node *node = node_at(pool, slot);
        if (node->key == key)
            return slot;
        slot = node->link;
    }
    return NOWHERE;
}

/* Split the next bucket in turn. Without memory for it the chains are longer, and nothing else. */
static void index_split(struct index *index, const struct pool *pool)
{
    uint32_t fresh = index->buckets, *from, *to, slot;
    if (fresh >= UINT32_C(1) << 30 || (fresh / SEGMENT >= index->segment_count && more_buckets(index) < 0))
        return;
    from = head_of(index, fresh - index->base);
    to = head_of(index, fresh);
    while ((slot = *from) != NOWHERE) {
        struct node *node = node_at(pool, slot);
        if ((hash_of(index, node->key) & (2 * index->base - 1)) == fresh) {
            *from = node->link;
            node->link = *to;
            *to = slot;
        } else {
            from = &node->link;
        }
    }
    if (++index->buckets == 2 * index->base)
        index->base *= 2;
}

/* The index has begun. */
static void index_add(struct index *index, const struct pool *pool, uint32_t slot, uint64_t key)
{
    struct node *node = node_at(pool, slot);
    uint32_t *head = head_of(index, bucket_of(index, key));
    node->key = key;
    node->link = *head;
    *head = slot;
    if (++index->count > index->buckets)
        index_split(index, pool);
}

static void index_remove(struct index *index, const struct pool *pool, uint32_t slot)
{
    struct node *node = node_at(pool, slot);
    uint32_t *at = head_of(index, bucket_of(index, node->key));
    while (*at != slot)
        at = &node_at(pool, *at)->link;
    *at = node->link;
    index->count--;
}

static void index_clear(struct index *index)
{
    for (uint32_t i = 0; i < index->segment_count; i++)
        free(index->segments[i]);
    free(index->segments);
    memset(index, 0, sizeof *index);
}

/* ---- The elements. ---- */

struct order { /* what a snapshot has of an order; shared with frozen states, so write only through own() */
    uint64_t id, session, symbol;
    int32_t key; /* the price of an ask, the negated price of a bid */
    uint32_t quantity, account;
    uint32_t after; /* the slot of the order that arrived next */
};

struct chunk {
    uint32_t owners;  /* the living state and each frozen one */
    uint32_t spoiled; /* it was changed while it was shared: there was no memory for a copy */
    struct order orders[CHUNK];
};

struct place { /* the rest of an order, by the same slot */
    struct node node; /* key: the order's id */
    uint32_t level;
    uint32_t ahead, behind; /* in the level's queue */
    uint32_t before;        /* in the order of arrival */
};

struct level {
    struct node node; /* key: unused */
    uint32_t book;
    uint32_t first, last; /* of its queue */
    uint32_t count;       /* of orders; never 0 between commands */
};

struct entry {
    int32_t key;
    uint32_t level;
};

struct block {
    uint32_t count, room;
    struct entry entries[]; /* by falling key */
};

struct side { /* by falling key, so that the best level is the last entry of the last block */
    struct block **blocks; /* none is empty */
    uint32_t count, room;
};

struct book {
    struct node node; /* key: the symbol's code */
    uint64_t session; /* who holds it; 0 while it is empty, as the account */
    uint32_t account;
    uint32_t is_idle;
    uint32_t idle_before, idle_after;
    struct side sides[2]; /* bids, asks */
    char *tape;           /* TAPE_LENGTH trades, as in the canonical state; NULL before the first one */
    uint64_t trades;      /* ever; the next one goes to trades % TAPE_LENGTH */
};

struct tally { /* what an account or a session has; an element has something */
    struct node node; /* key: the account or session */
    uint32_t orders, symbols;
};

struct tallies {
    struct pool pool;
    struct index index;
};

struct limits {
    uint32_t open_orders, account_orders, session_orders, symbols, account_symbols, session_symbols;
};

struct state {
    struct chunk **chunks; /* as many as the pool of places has */
    uint32_t chunk_count, chunk_room;
    struct pool places, levels, books;
    struct index by_id, by_symbol;
    struct tallies accounts, sessions;
    uint64_t next_order_id;
    uint32_t open;        /* orders */
    uint32_t first, last; /* by arrival */
    uint32_t held, idle;  /* books */
    uint32_t idle_first, idle_last;
};

typedef struct {
    PyObject_HEAD
    struct limits limits;
    struct state state;
    char *fills; /* of the request that is being executed */
    size_t fill_bytes, fill_room;
    struct chunk **dying; /* the orders of a state that is freed in steps; it is no part of `state` any more */
    uint32_t dying_count, dying_orders;
} Core;

static void state_begin(struct state *state)
{
    memset(state, 0, sizeof *state);
    state->places.size = sizeof(struct place);
    state->levels.size = sizeof(struct level);
    state->books.size = sizeof(struct book);
    state->accounts.pool.size = state->sessions.pool.size = sizeof(struct tally);
    state->places.free = state->levels.free = state->books.free = NOWHERE;
    state->accounts.pool.free = state->sessions.pool.free = NOWHERE;
    state->first = state->last = state->idle_first = state->idle_last = NOWHERE;
    state->by_id.is_of_ids = 1;
    state->next_order_id = 1;
}

static const struct order *order_at(const struct state *state, uint32_t slot)
{
    return &state->chunks[slot >> CHUNK_BITS]->orders[slot & (CHUNK - 1)];
}
static struct place *place_at(const struct state *state, uint32_t slot)
{
    return (struct place *)node_at(&state->places, slot);
}
static struct level *level_at(const struct state *state, uint32_t slot)
{
    return (struct level *)node_at(&state->levels, slot);
}
static struct book *book_at(const struct state *state, uint32_t slot)
{
    return (struct book *)node_at(&state->books, slot);
}

/* An order that is about to be changed. A chunk that frozen states share is copied first. */
static struct order *own(struct state *state, uint32_t slot)
{
    struct chunk **at = &state->chunks[slot >> CHUNK_BITS];
    if ((*at)->owners > 1) {
        struct chunk *copy = malloc(sizeof *copy);
        if (copy) {
            memcpy(copy, *at, sizeof *copy);
            copy->owners = 1;
            copy->spoiled = 0;
            (*at)->owners--;
            *at = copy;
        } else {
            (*at)->spoiled = 1;
        }
    }
    return &(*at)->orders[slot & (CHUNK - 1)];
}

static void chunk_drop(struct chunk *chunk)
{
    if (!--chunk->owners)
        free(chunk);
}

/* At least one free slot for an order. */
static int reserve_order(struct state *state)
{
    if (state->places.free != NOWHERE)
        return 0;
    if (more_pointers(&state->chunks, state->chunk_count, &state->chunk_room) < 0)
        return -1;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk)
        return -1;
    chunk->owners = 1;
    if (pool_grow(&state->places) < 0) {
        free(chunk);
        return -1;
    }
    state->chunks[state->chunk_count++] = chunk;
    return 0;
}

/* ---- Tallies. ---- */

static struct tally *tally_find(const struct tallies *tallies, uint64_t key)
{
    uint32_t slot = index_find(&tallies->index, &tallies->pool, key);
    return slot == NOWHERE ? NULL : (struct tally *)node_at(&tallies->pool, slot);
}

/* The tally of `key`, made if it was not there; NULL if memory has run out. */
static struct tally *tally_of(struct tallies *tallies, uint64_t key)
{
    struct tally *tally = tally_find(tallies, key);
    if (tally)
        return tally;
    uint32_t slot = index_begin(&tallies->index) < 0 ? NOWHERE : pool_take(&tallies->pool);
    if (slot == NOWHERE)
        return NULL;
    tally = (struct tally *)node_at(&tallies->pool, slot);
    tally->orders = tally->symbols = 0;
    index_add(&tallies->index, &tallies->pool, slot, key);
    return tally;
}

/* Forget a tally of nothing, since clients choose their accounts. */
static void tally_tidy(struct tallies *tallies, uint64_t key)
{
    uint32_t slot = index_find(&tallies->index, &tallies->pool, key);
    if (slot == NOWHERE)
        return;
    struct tally *tally = (struct tally *)node_at(&tallies->pool, slot);
    if (!tally->orders && !tally->symbols) {
        index_remove(&tallies->index, &tallies->pool, slot);
        pool_give(&tallies->pool, slot);
    }
}

/* Memory has run out while an order of these was to rest. */
static int give_up(struct state *state, uint32_t account, uint64_t session)
{
    tally_tidy(&state->accounts, account);
    tally_tidy(&state->sessions, session);
    return -1;
}

static void tally_order_gone(struct tallies *tallies, uint64_t key)
{
    struct tally *tally = tally_find(tallies, key);
    if (!--tally->orders)
        tally_tidy(tallies, key);
}

static void tally_symbol_gone(struct tallies *tallies, uint64_t key)
{
    struct tally *tally = tally_find(tallies, key);
    if (!--tally->symbols)
        tally_tidy(tallies, key);
}

/* ---- Sides: sorted levels. ---- */

static struct entry *best_of(const struct side *side)
{
    if (!side->count)
        return NULL;
    struct block *block = side->blocks[side->count - 1];
    return &block->entries[block->count - 1];
}

static int32_t best_key(const struct side *side)
{
    struct entry *best = best_of(side);
    return best ? best->key : NO_LEVEL;
}

/* Where `key` is, or would go. Returns whether it is there. */
static int side_find(const struct side *side, int32_t key, uint32_t *block_at, uint32_t *entry_at)
{
    uint32_t low = 0, high = side->count;
    while (low < high) { /* the first block whose last key is not above */
        uint32_t middle = (low + high) / 2;
        const struct block *block = side->blocks[middle];
        if (block->entries[block->count - 1].key <= key)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == side->count) { /* better than all */
        *block_at = low ? low - 1 : 0;
        *entry_at = low ? side->blocks[low - 1]->count : 0;
        return 0;
    }
    const struct block *block = side->blocks[*block_at = low];
    low = 0;
    high = block->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (block->entries[middle].key <= key)
            high = middle;
        else
            low = middle + 1;
    }
    *entry_at = low;
    return block->entries[low].key == key;
}

static struct block *block_new(uint32_t room)
{
    struct block *block = malloc(sizeof *block + room * sizeof(struct entry));
    if (block) {
        block->count = 0;
        block->room = room;
    }
    return block;
}

/* Put `block` at `at` among the blocks. There is room for one more. */
static void side_put_block(struct side *side, uint32_t at, struct block *block)
{
    memmove(&side->blocks[at + 1], &side->blocks[at], (side->count - at) * sizeof *side->blocks);
    side->blocks[at] = block;
    side->count++;
}

/* Room for one more entry in the block at `*block_at`, which may be split: then the place of the new entry moves. */
static int side_make_room(struct side *side, uint32_t *block_at, uint32_t *entry_at)
{
    if (more_pointers(&side->blocks, side->count, &side->room) < 0)
        return -1;
    if (!side->count) {
        struct block *first = block_new(8);
        if (!first)
            return -1;
        side_put_block(side, 0, first);
    }
    struct block *block = side->blocks[*block_at];
    if (block->count < block->room)
        return 0;
    if (block->room < BLOCK_MAX) {
        struct block *larger = realloc(block, sizeof *block + block->room * 2 * sizeof(struct entry));
        if (!larger)
            return -1;
        larger->room *= 2;
        side->blocks[*block_at] = larger;
        return 0;
    }
    struct block *half = block_new(BLOCK_MAX);
    if (!half)
        return -1;
    half->count = block->count / 2;
    block->count -= half->count;
    memcpy(half->entries, &block->entries[block->count], half->count * sizeof(struct entry));
    side_put_block(side, *block_at + 1, half);
    if (*entry_at > block->count) {
        *entry_at -= block->count;
        ++*block_at;
    }
    return 0;
}

static void side_remove(struct side *side, int32_t key)
{
    uint32_t block_at, entry_at;
    side_find(side, key, &block_at, &entry_at);
    struct block *block = side->blocks[block_at];
    block->count--;
    memmove(&block->entries[entry_at], &block->entries[entry_at + 1], (block->count - entry_at) * sizeof(struct entry));
    if (!block->count) {
        free(block);
        side->count--;
        memmove(&side->blocks[block_at], &side->blocks[block_at + 1], (side->count - block_at) * sizeof *side->blocks);
    }
}

static void side_clear(struct side *side)
{
    for (uint32_t i = 0; i < side->count; i++)
        free(side->blocks[i]);
    free(side->blocks);
    memset(side, 0, sizeof *side);
}

static struct side *side_of(struct book *book, int32_t key) { return &book->sides[key > 0]; }

/* The level of `key`, opened if it was not there; NOWHERE if memory has run out. */
static uint32_t level_of(struct state *state, uint32_t book_slot, int32_t key)
{
    struct side *side = side_of(book_at(state, book_slot), key);
    uint32_t block_at, entry_at, slot;
    if (side_find(side, key, &block_at, &entry_at))
        return side->blocks[block_at]->entries[entry_at].level;
    if ((slot = pool_take(&state->levels)) == NOWHERE)
        return NOWHERE;
    if (side_make_room(side, &block_at, &entry_at) < 0) {
        pool_give(&state->levels, slot);
        return NOWHERE;
    }
    struct level *level = level_at(state, slot);
    level->book = book_slot;
    level->first = level->last = NOWHERE;
    level->count = 0;
    struct block *block = side->blocks[block_at];
    memmove(&block->entries[entry_at + 1], &block->entries[entry_at], (block->count - entry_at) * sizeof(struct entry));
    block->entries[entry_at] = (struct entry){key, slot};
    block->count++;
    return slot;
}

/* ---- Books: listing. ---- */

static int is_empty(const struct book *book) { return !book->sides[0].count && !book->sides[1].count; }

static uint32_t book_find(const struct state *state, uint64_t symbol)
{
    return index_find(&state->by_symbol, &state->books, symbol);
}

/* List a symbol, as an idle one that is in no list yet; NOWHERE if memory has run out. */
static uint32_t book_list(struct state *state, uint64_t symbol)
{
    uint32_t slot = index_begin(&state->by_symbol) < 0 ? NOWHERE : pool_take(&state->books);
    if (slot == NOWHERE)
        return NOWHERE;
    struct book *book = book_at(state, slot);
    memset(book, 0, sizeof *book);
    index_add(&state->by_symbol, &state->books, slot, symbol);
    return slot;
}

static void become_idle(struct state *state, uint32_t slot)
{
    struct book *book = book_at(state, slot);
    book->is_idle = 1;
    book->session = 0;
    book->account = 0;
    book->idle_before = state->idle_last;
    book->idle_after = NOWHERE;
    if (state->idle_last == NOWHERE)
        state->idle_first = slot;
    else
        book_at(state, state->idle_last)->idle_after = slot;
    state->idle_last = slot;
    state->idle++;
}

static void leave_idle(struct state *state, uint32_t slot)
{
    struct book *book = book_at(state, slot);
    if (book->idle_before == NOWHERE)
        state->idle_first = book->idle_after;
    else
        book_at(state, book->idle_before)->idle_after = book->idle_after;
    if (book->idle_after == NOWHERE)
        state->idle_last = book->idle_before;
    else
        book_at(state, book->idle_after)->idle_before = book->idle_before;
    book->is_idle = 0;
    state->idle--;
}

static void book_forget(struct state *state, uint32_t slot)
{
    struct book *book = book_at(state, slot);
    index_remove(&state->by_symbol, &state->books, slot);
    free(book->tape);
    side_clear(&book->sides[0]);
    side_clear(&book->sides[1]);
    memset(book, 0, sizeof *book);
    pool_give(&state->books, slot);
}

/* An order is about to rest in the empty book of `symbol`, which may not be listed (`slot` is NOWHERE then). */
static uint32_t hold(struct state *state, const struct limits *limits, uint32_t slot, uint64_t symbol, uint32_t account,
                     uint64_t session)
{
    int is_listed = slot != NOWHERE;
    struct tally *of_account = tally_of(&state->accounts, account), *of_session = tally_of(&state->sessions, session);
    if (!of_account || !of_session || (slot == NOWHERE && (slot = book_list(state, symbol)) == NOWHERE)) {
        give_up(state, account, session);
        return NOWHERE;
    }
    if (!is_listed) {
        if (state->held + state->idle >= limits->symbols && state->idle) {
            uint32_t oldest = state->idle_first;
            leave_idle(state, oldest);
            book_forget(state, oldest);
        }
    } else {
        leave_idle(state, slot);
    }
    struct book *book = book_at(state, slot);
    book->account = account;
    book->session = session;
    of_account->symbols++;
    of_session->symbols++;
    state->held++;
    return slot;
}

static void release_if_empty(struct state *state, uint32_t slot)
{
    struct book *book = book_at(state, slot);
    if (!is_empty(book))
        return;
    tally_symbol_gone(&state->accounts, book->account);
    tally_symbol_gone(&state->sessions, book->session);
    state->held--;
    become_idle(state, slot);
}

static int is_symbol_code(uint64_t code)
{
    int ended = 0;
    if (!code)
        return 0;
    for (int i = 0; i < 8; i++, code >>= 8) {
        unsigned char c = code & 0xff;
        if (!c)
            ended = 1;
        else if (ended || !((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'))
            return 0;
    }
    return 1;
}

/* ---- Orders. ---- */

/* Put an order at the end of its level's queue and of the order of arrival. */
static int rest(struct state *state, uint32_t book_slot, int32_t key, uint64_t id, uint32_t account, uint32_t quantity,
                uint64_t session)
{
    struct tally *of_account = tally_of(&state->accounts, account), *of_session = tally_of(&state->sessions, session);
    uint32_t level_slot = NOWHERE;
    if (of_account && of_session && index_begin(&state->by_id) == 0 && reserve_order(state) == 0)
        level_slot = level_of(state, book_slot, key);
    if (level_slot == NOWHERE)
        return give_up(state, account, session);
    uint32_t slot = pool_take(&state->places);
    struct place *place = place_at(state, slot);
    struct level *level = level_at(state, level_slot);
    struct order *order = own(state, slot);
    *order = (struct order){id, session, book_at(state, book_slot)->node.key, key, quantity, account, NOWHERE};
    place->level = level_slot;
    place->ahead = level->last;
    place->behind = NOWHERE;
    if (level->last == NOWHERE)
        level->first = slot;
    else
        place_at(state, level->last)->behind = slot;
    level->last = slot;
    level->count++;
    place->before = state->last;
    if (state->last == NOWHERE)
        state->first = slot;
    else
        own(state, state->last)->after = slot;
    state->last = slot;
    state->open++;
    of_account->orders++;
    of_session->orders++;
    index_add(&state->by_id, &state->places, slot, id);
    return 0;
}

/* Take an order out of its level, the order of arrival and the index. Its book may be empty then. */
static void take_out(struct state *state, uint32_t slot)
{
    const struct order *order = order_at(state, slot);
    struct place *place = place_at(state, slot);
    struct level *level = level_at(state, place->level);
    if (place->ahead == NOWHERE)
        level->first = place->behind;
    else
        place_at(state, place->ahead)->behind = place->behind;
    if (place->behind == NOWHERE)
        level->last = place->ahead;
    else
        place_at(state, place->behind)->ahead = place->ahead;
    if (!--level->count) {
        side_remove(side_of(book_at(state, level->book), order->key), order->key);
        pool_give(&state->levels, place->level);
    }
    uint32_t after = order->after;
    if (after == NOWHERE)
        state->last = place->before;
    else
        place_at(state, after)->before = place->before;
    tally_order_gone(&state->accounts, order->account);
    tally_order_gone(&state->sessions, order->session);
    if (place->before == NOWHERE)
        state->first = after;
    else
        own(state, place->before)->after = after; /* this may move the chunk of `order` */
    index_remove(&state->by_id, &state->places, slot);
    pool_give(&state->places, slot);
    state->open--;
}

/* ---- The rules. ---- */

struct command {
    uint32_t kind, side, order_type, time_in_force;
    uint32_t quantity, account, flags;
    uint64_t order_id, symbol;
    int64_t price;
};

struct report {
    uint32_t status, reason, fill_count, filled, leaves;
    uint64_t order_id;
    int64_t notional;
};

static void command_read(struct command *c, const char *p)
{
    uint32_t codes = get32(p);
    c->kind = codes & 0xff;
    c->side = codes >> 8 & 0xff;
    c->order_type = codes >> 16 & 0xff;
    c->time_in_force = codes >> 24;
    c->quantity = get32(p + 4);
    c->order_id = get64(p + 8);
    c->symbol = get64(p + 16);
    c->price = get64s(p + 24);
    c->account = get32(p + 32);
    c->flags = get32(p + 36);
}

static void report_write(const struct report *r, char *p)
{
    put32(p, r->status | r->reason << 8);
    put32(p + 4, r->fill_count);
    put32(p + 8, r->filled);
    put32(p + 12, r->leaves);
    put64(p + 16, r->order_id);
    put64(p + 24, (uint64_t)r->notional);
}

static void reject(struct report *r, uint32_t reason, uint64_t order_id)
{
    *r = (struct report){REJECTED, reason, 0, 0, 0, order_id, 0};
}

static int note_fill(Core *core, struct book *book, uint64_t maker, int32_t price, uint32_t quantity, uint32_t left,
                     uint64_t taker)
{
    if (core->fill_bytes + FILL_SIZE > core->fill_room) {
        size_t room = core->fill_room ? core->fill_room * 2 : 64 * FILL_SIZE;
        char *larger = realloc(core->fills, room);
        if (!larger)
            return -1;
        core->fills = larger;
        core->fill_room = room;
    }
    if (!book->tape && !(book->tape = malloc(TAPE_LENGTH * TRADE_SIZE)))
        return -1;
    char *p = core->fills + core->fill_bytes;
    put64(p, maker);
    put64(p + 8, (uint64_t)price);
    put32(p + 16, quantity);
    put32(p + 20, left);
    core->fill_bytes += FILL_SIZE;
    p = book->tape + book->trades++ % TAPE_LENGTH * TRADE_SIZE;
    put32(p, (uint32_t)price);
    put32(p + 4, quantity);
    put64(p + 8, maker);
    put64(p + 16, taker);
    return 0;
}

/* Trade up to r->leaves with the orders of `opposite` that `limit` reaches. Returns 1 if an order of the same account
 * stopped the trading, and -1 if memory has run out. */
static int match(Core *core, struct book *book, struct side *opposite, int32_t limit, uint32_t account,
                 struct report *r)
{
    struct state *state = &core->state;
    while (r->leaves && best_key(opposite) <= limit) {
        uint32_t slot = level_at(state, best_of(opposite)->level)->first;
        const struct order *maker = order_at(state, slot);
        if (maker->account == account)
            return 1;
        uint32_t quantity = maker->quantity < r->leaves ? maker->quantity : r->leaves;
        uint32_t left = maker->quantity - quantity;
        int32_t price = maker->key < 0 ? -maker->key : maker->key;
        if (note_fill(core, book, maker->id, price, quantity, left, r->order_id) < 0)
            return -1;
        r->leaves -= quantity;
        r->filled += quantity;
        r->notional += (int64_t)price * quantity;
        r->fill_count++;
        if (left)
            own(state, slot)->quantity = left;
        else
            take_out(state, slot);
    }
    return 0;
}

/* Whether all of `wanted` can be filled at `limit` or better, before an order of `account` stops the trading. */
static int is_available(const struct state *state, const struct side *side, int32_t limit, uint32_t wanted,
                        uint32_t account)
{
    uint64_t found = 0;
    for (uint32_t b = side->count; b-- > 0;) {
        const struct block *block = side->blocks[b];
        for (uint32_t e = block->count; e-- > 0;) {
            if (block->entries[e].key > limit)
                return 0;
            uint32_t slot = level_at(state, block->entries[e].level)->first;
            for (; slot != NOWHERE; slot = place_at(state, slot)->behind) {
                const struct order *order = order_at(state, slot);
                if (order->account == account)
                    return 0;
                found += order->quantity;
                if (found >= wanted)
                    return 1;
            }
        }
    }
    return 0;
}

/* Why an order may not come to rest; NO_REASON if it may. */
static uint32_t no_room(const Core *core, uint32_t book_slot, uint32_t account, uint64_t session)
{
    const struct limits *limits = &core->limits;
    const struct state *state = &core->state;
    const struct tally *of_account = tally_find(&state->accounts, account);
    const struct tally *of_session = tally_find(&state->sessions, session);
    if (book_slot == NOWHERE || book_at(state, book_slot)->is_idle) {
        if (state->held >= limits->symbols)
            return TOO_MANY_SYMBOLS;
        if ((of_account ? of_account->symbols : 0) >= limits->account_symbols)
            return TOO_MANY_ACCOUNT_SYMBOLS;
        if ((of_session ? of_session->symbols : 0) >= limits->session_symbols)
            return TOO_MANY_SESSION_SYMBOLS;
    }
    if (state->open >= limits->open_orders)
        return TOO_MANY_ORDERS;
    if ((of_account ? of_account->orders : 0) >= limits->account_orders)
        return TOO_MANY_ACCOUNT_ORDERS;
    if ((of_session ? of_session->orders : 0) >= limits->session_orders)
        return TOO_MANY_SESSION_ORDERS;
    return NO_REASON;
}

/* The first reason to reject a new order, whatever the book holds. */
static uint32_t refusal(const Core *core, const struct command *c, uint32_t book_slot, uint64_t session, int may_rest)
{
    if (book_slot == NOWHERE && !is_symbol_code(c->symbol))
        return BAD_SYMBOL;
    if (c->side != BUY && c->side != SELL)
        return BAD_SIDE;
    if ((c->order_type != LIMIT && c->order_type != MARKET) || c->time_in_force < GTC || c->time_in_force > FOK)
        return BAD_TYPE;
    if (c->flags && (c->flags != POST_ONLY || !may_rest))
        return BAD_TYPE;
    if (c->quantity < 1 || c->quantity > MAX_QUANTITY)
        return BAD_QUANTITY;
    if (c->order_type == LIMIT && (c->price < 1 || c->price > MAX_PRICE))
        return BAD_PRICE;
    if (c->order_id || (c->price && c->order_type == MARKET))
        return UNUSED_FIELD;
    return may_rest ? no_room(core, book_slot, c->account, session) : NO_REASON;
}

static int execute_new(Core *core, const struct command *c, uint64_t session, struct report *r)
{
    struct state *state = &core->state;
    uint32_t slot = book_find(state, c->symbol);
    int may_rest = c->order_type == LIMIT && c->time_in_force == GTC, stopped = 0;
    uint32_t reason = refusal(core, c, slot, session, may_rest);
    if (reason) {
        reject(r, reason, 0);
        return 0;
    }
    struct book *book = slot == NOWHERE ? NULL : book_at(state, slot);
    int32_t limit = c->order_type == MARKET ? NO_LIMIT : c->side == BUY ? (int32_t)c->price : -(int32_t)c->price;
    struct side *opposite = book ? &book->sides[c->side == BUY] : NULL;
    int reaches = opposite && best_key(opposite) <= limit;
    if (c->flags && reaches) {
        reject(r, WOULD_CROSS, 0);
        return 0;
    }
    *r = (struct report){FILLED, NO_REASON, 0, 0, c->quantity, state->next_order_id++, 0};
    if (c->time_in_force == FOK && !(reaches && is_available(state, opposite, limit, c->quantity, c->account))) {
        *r = (struct report){EXPIRED, WOULD_NOT_FILL, 0, 0, 0, r->order_id, 0};
        return 0;
    }
    if (reaches && (stopped = match(core, book, opposite, limit, c->account, r)) < 0)
        return -1;
    if (stopped || (r->leaves && !may_rest)) {
        r->status = EXPIRED;
        r->reason = stopped ? SELF_TRADE : NO_LIQUIDITY;
        r->leaves = 0;
    } else if (r->leaves) {
        r->status = r->filled ? PARTIALLY_FILLED : RESTS;
        if (slot == NOWHERE || book->is_idle)
            slot = hold(state, &core->limits, slot, c->symbol, c->account, session);
        if (slot == NOWHERE)
            return -1;
        if (rest(state, slot, -limit, r->order_id, c->account, r->leaves, session) < 0) {
            release_if_empty(state, slot);
            return -1;
        }
    }
    if (r->filled)
        release_if_empty(state, slot);
    return 0;
}

/* The open order that a cancel or a replace names; NOWHERE if there is none. */
static uint32_t named_order(const struct state *state, const struct command *c)
{
    uint32_t slot = index_find(&state->by_id, &state->places, c->order_id);
    if (slot == NOWHERE)
        return NOWHERE;
    const struct order *order = order_at(state, slot);
    return order->account == c->account && order->symbol == c->symbol ? slot : NOWHERE;
}

static void execute_cancel(Core *core, const struct command *c, struct report *r)
{
    struct state *state = &core->state;
    uint32_t slot = named_order(state, c);
    if (slot == NOWHERE) {
        reject(r, UNKNOWN_ORDER, c->order_id);
    } else if (c->side || c->order_type || c->time_in_force || c->quantity || c->price || c->flags) {
        reject(r, UNUSED_FIELD, c->order_id);
    } else {
        uint32_t book = level_at(state, place_at(state, slot)->level)->book;
        take_out(state, slot);
        release_if_empty(state, book);
        *r = (struct report){CANCELED, NO_REASON, 0, 0, 0, c->order_id, 0};
    }
}

static uint32_t replace_refusal(const struct command *c, uint32_t slot)
{
    if (slot == NOWHERE)
        return UNKNOWN_ORDER;
    if (c->flags && c->flags != POST_ONLY)
        return BAD_TYPE;
    if (c->quantity < 1 || c->quantity > MAX_QUANTITY)
        return BAD_QUANTITY;
    if (c->price < 1 || c->price > MAX_PRICE)
        return BAD_PRICE;
    return c->side || c->order_type || c->time_in_force ? UNUSED_FIELD : NO_REASON;
}

static int execute_replace(Core *core, const struct command *c, struct report *r)
{
    struct state *state = &core->state;
    uint32_t slot = named_order(state, c), reason = replace_refusal(c, slot);
    if (reason) {
        reject(r, reason, c->order_id);
        return 0;
    }
    const struct order *order = order_at(state, slot);
    int is_bid = order->key < 0;
    int32_t limit = is_bid ? (int32_t)c->price : -(int32_t)c->price;
    *r = (struct report){REPLACED, NO_REASON, 0, 0, c->quantity, c->order_id, 0};
    if (c->quantity <= order->quantity && order->key == -limit) {
        own(state, slot)->quantity = c->quantity;
        return 0;
    }
    uint32_t book_slot = level_at(state, place_at(state, slot)->level)->book;
    struct book *book = book_at(state, book_slot);
    struct side *opposite = &book->sides[is_bid];
    if (c->flags && best_key(opposite) <= limit) {
        reject(r, WOULD_CROSS, c->order_id);
        return 0;
    }
    uint64_t session = order->session;
    take_out(state, slot);
    int failed = 0, stopped = match(core, book, opposite, limit, c->account, r);
    if (stopped < 0)
        return -1;
    if (stopped) {
        r->status = EXPIRED;
        r->reason = SELF_TRADE;
        r->leaves = 0;
    } else if (r->leaves) {
        failed = rest(state, book_slot, -limit, c->order_id, c->account, r->leaves, session);
    }
    release_if_empty(state, book_slot);
    return failed;
}

static int execute_one(Core *core, const struct command *c, uint64_t session, struct report *r)
{
    switch (c->kind) {
    case KIND_NEW:
        return execute_new(core, c, session, r);
    case KIND_CANCEL:
        execute_cancel(core, c, r);
        return 0;
    case KIND_REPLACE:
        return execute_replace(core, c, r);
    default:
        reject(r, UNKNOWN_COMMAND, 0);
        return 0;
    }
}

/* ---- A frozen state. ---- */

typedef struct {
    PyObject_HEAD
    struct chunk **chunks;
    uint32_t chunk_count;
    uint32_t next; /* the slot of the order that is encoded next */
    uint32_t left; /* orders */
    Py_ssize_t rows;
    char *head; /* the header and all symbols */
    size_t head_bytes, head_done;
} Frozen;

static void frozen_dealloc(PyObject *self)
{
    Frozen *frozen = (Frozen *)self;
    for (uint32_t i = 0; i < frozen->chunk_count; i++)
        chunk_drop(frozen->chunks[i]);
    free(frozen->chunks);
    free(frozen->head);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *frozen_symbols(Frozen *frozen)
{
    size_t end = frozen->head_done ? frozen->head_done : HEADER_SIZE;
    Py_ssize_t at_once = frozen->rows / TAPE_LENGTH ? frozen->rows / TAPE_LENGTH : 1;
    for (; at_once && end < frozen->head_bytes; at_once--)
        end += SYMBOL_SIZE + (size_t)get32(frozen->head + end + 20) * TRADE_SIZE;
    const char *begin = frozen->head + frozen->head_done;
    PyObject *slice = PyBytes_FromStringAndSize(begin, frozen->head + end - begin);
    if (slice)
        frozen->head_done = end;
    return slice;
}

static PyObject *frozen_next(PyObject *self)
{
    Frozen *frozen = (Frozen *)self;
    if (frozen->head_done < frozen->head_bytes)
        return frozen_symbols(frozen);
    if (!frozen->left)
        return NULL;
    uint32_t rows = frozen->rows < (Py_ssize_t)frozen->left ? (uint32_t)frozen->rows : frozen->left;
    PyObject *slice = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)rows * ORDER_SIZE);
    if (!slice)
        return NULL;
    char *p = PyBytes_AS_STRING(slice);
    for (uint32_t i = 0; i < rows; i++, p += ORDER_SIZE) {
        const struct chunk *chunk = frozen->chunks[frozen->next >> CHUNK_BITS];
        if (chunk->spoiled) {
            Py_DECREF(slice);
            return PyErr_NoMemory();
        }
        const struct order *order = &chunk->orders[frozen->next & (CHUNK - 1)];
        memcpy(p, order, ORDER_SIZE); /* its fields stand in the order of the canonical record */
        frozen->next = order->after;
    }
    frozen->left -= rows;
    return slice;
}

static PyTypeObject FrozenType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "zmqlab.market._matching.Frozen",
    .tp_doc = "An iterator over the canonical bytes of a state as it was, in slices.",
    .tp_basicsize = sizeof(Frozen),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = frozen_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = frozen_next,
};

static int by_code(const void *one, const void *other)
{
    uint64_t a = (*(struct book *const *)one)->node.key, b = (*(struct book *const *)other)->node.key;
    return a < b ? -1 : a > b;
}

/* The listed books, those with orders by rising code, then the idle ones; to be freed. NULL without memory. */
static struct book **books_in_order(const struct state *state)
{
    struct book **books = malloc((state->held + state->idle + 1) * sizeof *books);
    uint32_t count = 0;
    if (!books)
        return NULL;
    for (uint32_t bucket = 0; state->held && bucket < state->by_symbol.buckets; bucket++) {
        uint32_t slot = *head_of(&state->by_symbol, bucket);
        for (; slot != NOWHERE; slot = book_at(state, slot)->node.link)
            if (!book_at(state, slot)->is_idle)
                books[count++] = book_at(state, slot);
    }
    qsort(books, count, sizeof *books, by_code);
    for (uint32_t slot = state->idle_first; slot != NOWHERE; slot = book_at(state, slot)->idle_after)
        books[count++] = book_at(state, slot);
    return books;
}

static uint32_t tape_count(const struct book *book)
{
    return book->trades < TAPE_LENGTH ? (uint32_t)book->trades : TAPE_LENGTH;
}

/* The i-th of the trades that are kept, the oldest first. */
static const char *tape_at(const struct book *book, uint32_t i)
{
    return book->tape + (book->trades - tape_count(book) + i) % TAPE_LENGTH * TRADE_SIZE;
}

static int freeze_symbols(Frozen *frozen, const struct state *state)
{
    uint32_t count = state->held + state->idle;
    struct book **books = books_in_order(state);
    if (!books)
        return -1;
    size_t size = HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++)
        size += SYMBOL_SIZE + tape_count(books[i]) * TRADE_SIZE;
    char *p = frozen->head = malloc(size);
    if (!p) {
        free(books);
        return -1;
    }
    frozen->head_bytes = size;
    memcpy(p, "ZLMS", 4);
    put32(p + 4, 2);
    put64(p + 8, state->next_order_id);
    put32(p + 16, state->held);
    put32(p + 20, state->idle);
    put32(p + 24, state->open);
    p += HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t trades = tape_count(books[i]);
        put64(p, books[i]->node.key);
        put64(p + 8, books[i]->session);
        put32(p + 16, books[i]->account);
        put32(p + 20, trades);
        p += SYMBOL_SIZE;
        for (uint32_t j = 0; j < trades; j++, p += TRADE_SIZE)
            memcpy(p, tape_at(books[i], j), TRADE_SIZE);
    }
    free(books);
    return 0;
}

static int freeze_orders(Frozen *frozen, const struct state *state)
{
    frozen->chunks = malloc((state->chunk_count + 1) * sizeof *frozen->chunks);
    if (!frozen->chunks)
        return -1;
    for (; frozen->chunk_count < state->chunk_count; frozen->chunk_count++) {
        struct chunk *chunk = frozen->chunks[frozen->chunk_count] = state->chunks[frozen->chunk_count];
        if (chunk->owners++ == 1)
            chunk->spoiled = 0;
    }
    frozen->next = state->first;
    frozen->left = state->open;
    return 0;
}

static PyObject *core_freeze(PyObject *self, PyObject *args)
{
    Py_ssize_t rows;
    if (!PyArg_ParseTuple(args, "n:freeze", &rows))
        return NULL;
    if (rows < 1)
        return PyErr_Format(PyExc_ValueError, "a slice has one row at least, not %zd", rows);
    Frozen *frozen = PyObject_New(Frozen, &FrozenType);
    if (!frozen)
        return NULL;
    memset((char *)frozen + sizeof(PyObject), 0, sizeof *frozen - sizeof(PyObject));
    frozen->rows = rows;
    const struct state *state = &((Core *)self)->state;
    if (freeze_symbols(frozen, state) < 0 || freeze_orders(frozen, state) < 0) {
        Py_DECREF(frozen);
        return PyErr_NoMemory();
    }
    return (PyObject *)frozen;
}

/* ---- The object. ---- */

static void state_clear(struct state *state)
{
    for (uint32_t i = 0; i < state->books.count << CHUNK_BITS; i++) { /* free ones are all zeros */
        struct book *book = book_at(state, i);
        free(book->tape);
        side_clear(&book->sides[0]);
        side_clear(&book->sides[1]);
    }
    for (uint32_t i = 0; i < state->chunk_count; i++)
        chunk_drop(state->chunks[i]);
    free(state->chunks);
    pool_clear(&state->places);
    pool_clear(&state->levels);
    pool_clear(&state->books);
    pool_clear(&state->accounts.pool);
    pool_clear(&state->sessions.pool);
    index_clear(&state->by_id);
    index_clear(&state->by_symbol);
    index_clear(&state->accounts.index);
    index_clear(&state->sessions.index);
    state_begin(state);
}

static PyObject *core_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    Core *core = (Core *)type->tp_alloc(type, 0);
    if (core)
        state_begin(&core->state);
    return (PyObject *)core;
}

static int core_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct limits *limits = &((Core *)self)->limits;
    uint32_t *fields[] = {&limits->open_orders, &limits->account_orders, &limits->session_orders,
                          &limits->symbols,     &limits->account_symbols, &limits->session_symbols};
    Py_ssize_t n[6];
    if (kwargs && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Core takes its limits by position");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "nnnnnn:Core", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5]))
        return -1;
    for (int i = 0; i < 6; i++)
        *fields[i] = n[i] < 0 ? 0 : (uint64_t)n[i] >= NOWHERE ? NOWHERE - 1 : (uint32_t)n[i];
    return 0;
}

static void core_dealloc(PyObject *self)
{
    Core *core = (Core *)self;
    state_clear(&core->state);
    while (core->dying_count)
        chunk_drop(core->dying[--core->dying_count]);
    free(core->dying);
    free(core->fills);
    Py_TYPE(self)->tp_free(self);
}

/* execute_packed(frame, offset, session) -> (reports, fills, rejected) */
static PyObject *core_execute_packed(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Core *core = (Core *)self;
    Py_buffer frame;
    if (count != 3)
        return PyErr_Format(PyExc_TypeError, "execute_packed takes a frame, an offset and a session");
    Py_ssize_t offset = PyLong_AsSsize_t(args[1]);
    if (offset == -1 && PyErr_Occurred())
        return NULL;
    uint64_t session = PyLong_AsUnsignedLongLong(args[2]);
    if (session == UINT64_MAX && PyErr_Occurred())
        return NULL;
    if (PyObject_GetBuffer(args[0], &frame, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t size = frame.len - offset;
    if (offset < 0 || size < 0 || size % COMMAND_SIZE) {
        PyBuffer_Release(&frame);
        return PyErr_Format(PyExc_ValueError, "%zd bytes are no whole number of commands", size);
    }
    Py_ssize_t commands = size / COMMAND_SIZE;
    PyObject *reports = PyBytes_FromStringAndSize(NULL, commands * REPORT_SIZE), *fills = NULL, *result = NULL;
    long rejected = 0;
    int failed = !reports;
    core->fill_bytes = 0;
    for (Py_ssize_t i = 0; i < commands && !failed; i++) {
        struct command command;
        struct report report;
        command_read(&command, (const char *)frame.buf + offset + i * COMMAND_SIZE);
        if ((failed = execute_one(core, &command, session, &report) < 0))
            PyErr_NoMemory();
        else {
            report_write(&report, PyBytes_AS_STRING(reports) + i * REPORT_SIZE);
            rejected += report.status == REJECTED;
        }
    }
    PyBuffer_Release(&frame);
    if (!failed && (fills = PyBytes_FromStringAndSize(core->fills, (Py_ssize_t)core->fill_bytes)))
        result = Py_BuildValue("(OOl)", reports, fills, rejected);
    Py_XDECREF(reports);
    Py_XDECREF(fills);
    if (core->fill_room > KEPT_FILLS) {
        free(core->fills);
        core->fills = NULL;
        core->fill_room = 0;
    }
    return result;
}

static PyObject *side_depth(const struct state *state, const struct side *side, Py_ssize_t levels)
{
    PyObject *rows = PyList_New(0);
    for (uint32_t b = side->count; rows && b-- > 0 && levels > 0;) {
        const struct block *block = side->blocks[b];
        for (uint32_t e = block->count; rows && e-- > 0 && levels > 0; levels--) {
            const struct level *level = level_at(state, block->entries[e].level);
            int32_t key = block->entries[e].key;
            unsigned long long quantity = 0;
            for (uint32_t slot = level->first; slot != NOWHERE; slot = place_at(state, slot)->behind)
                quantity += order_at(state, slot)->quantity;
            PyObject *row = Py_BuildValue("(iKI)", key < 0 ? -key : key, quantity, level->count);
            if (!row || PyList_Append(rows, row) < 0)
                Py_CLEAR(rows);
            Py_XDECREF(row);
        }
    }
    return rows;
}

static PyObject *core_levels(PyObject *self, PyObject *args)
{
    const struct state *state = &((Core *)self)->state;
    unsigned long long symbol;
    Py_ssize_t levels;
    static const struct side none;
    if (!PyArg_ParseTuple(args, "Kn:levels", &symbol, &levels))
        return NULL;
    uint32_t slot = book_find(state, symbol);
    const struct side *bids = slot == NOWHERE ? &none : &book_at(state, slot)->sides[0];
    const struct side *asks = slot == NOWHERE ? &none : &book_at(state, slot)->sides[1];
    PyObject *one = side_depth(state, bids, levels), *other = one ? side_depth(state, asks, levels) : NULL;
    if (!other) {
        Py_XDECREF(one);
        return NULL;
    }
    return Py_BuildValue("(NN)", one, other);
}

static PyObject *core_tape(PyObject *self, PyObject *args)
{
    const struct state *state = &((Core *)self)->state;
    unsigned long long symbol;
    if (!PyArg_ParseTuple(args, "K:tape", &symbol))
        return NULL;
    uint32_t slot = book_find(state, symbol);
    uint32_t count = slot == NOWHERE ? 0 : tape_count(book_at(state, slot));
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count * TRADE_SIZE);
    for (uint32_t i = 0; bytes && i < count; i++)
        memcpy(PyBytes_AS_STRING(bytes) + i * TRADE_SIZE, tape_at(book_at(state, slot), i), TRADE_SIZE);
    return bytes;
}

static PyObject *core_codes(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct state *state = &((Core *)self)->state;
    uint32_t count = state->held + state->idle;
    struct book **books = books_in_order(state);
    if (!books)
        return PyErr_NoMemory();
    PyObject *codes = PyList_New(count);
    for (uint32_t i = 0; codes && i < count; i++) {
        PyObject *code = PyLong_FromUnsignedLongLong(books[i]->node.key);
        if (code)
            PyList_SET_ITEM(codes, i, code);
        else
            Py_CLEAR(codes);
    }
    free(books);
    return codes;
}

static PyObject *core_open_orders(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLong(((Core *)self)->state.open + ((Core *)self)->dying_orders);
}

static PyObject *core_shared_chunks(PyObject *self, void *closure)
{
    (void)closure;
    const struct state *state = &((Core *)self)->state;
    unsigned long shared = 0;
    for (uint32_t i = 0; i < state->chunk_count; i++)
        shared += state->chunks[i]->owners > 1;
    return PyLong_FromUnsignedLong(shared);
}

/* ---- Restoring. ---- */

static PyObject *core_restore_header(PyObject *self, PyObject *args)
{
    unsigned long long next_order_id;
    if (!PyArg_ParseTuple(args, "K:restore_header", &next_order_id))
        return NULL;
    ((Core *)self)->state.next_order_id = next_order_id;
    Py_RETURN_NONE;
}

static PyObject *core_restore_symbol(PyObject *self, PyObject *args)
{
    Core *core = (Core *)self;
    struct state *state = &core->state;
    unsigned long long code, session;
    unsigned int account;
    int is_idle;
    if (!PyArg_ParseTuple(args, "KKIp:restore_symbol", &code, &session, &account, &is_idle))
        return NULL;
    if (!is_symbol_code(code) || book_find(state, code) != NOWHERE)
        return PyErr_Format(PyExc_ValueError,
                            "a state of the market lists %llu, which is no symbol, or lists it twice", code);
    uint32_t slot;
    if (is_idle) {
        if ((slot = book_list(state, code)) != NOWHERE)
            become_idle(state, slot);
    } else {
        slot = hold(state, &core->limits, NOWHERE, code, account, session);
    }
    if (slot == NOWHERE)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *core_restore_tape(PyObject *self, PyObject *args)
{
    struct state *state = &((Core *)self)->state;
    unsigned long long code;
    Py_buffer trades;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "Ky*:restore_tape", &code, &trades))
        return NULL;
    uint32_t slot = book_find(state, code);
    if (slot == NOWHERE || trades.len % TRADE_SIZE || trades.len > TAPE_LENGTH * TRADE_SIZE) {
        PyErr_SetString(PyExc_ValueError, "these are no trades of a listed symbol");
    } else {
        struct book *book = book_at(state, slot);
        char *tape = trades.len ? malloc(TAPE_LENGTH * TRADE_SIZE) : NULL;
        if (trades.len && !tape) {
            PyErr_NoMemory();
        } else {
            if (tape)
                memcpy(tape, trades.buf, (size_t)trades.len);
            free(book->tape);
            book->tape = tape;
            book->trades = (uint64_t)trades.len / TRADE_SIZE;
            result = Py_NewRef(Py_None);
        }
    }
    PyBuffer_Release(&trades);
    return result;
}

/* 0: it rests now; 1: there is an order with this id; 2: there can be no such order; -1: no memory. */
static int restore_order(struct state *state, const char *p)
{
    uint64_t id = get64(p);
    int32_t key = get32s(p + 24);
    uint32_t quantity = get32(p + 28), slot = book_find(state, get64(p + 16));
    if (slot == NOWHERE || book_at(state, slot)->is_idle || !id || id >= state->next_order_id || !quantity ||
        quantity > MAX_QUANTITY || !key || key > MAX_PRICE || key < -MAX_PRICE)
        return 2;
    if (index_find(&state->by_id, &state->places, id) != NOWHERE)
        return 1;
    return rest(state, slot, key, id, get32(p + 32), quantity, get64(p + 8));
}

static PyObject *core_restore_orders(PyObject *self, PyObject *args)
{
    struct state *state = &((Core *)self)->state;
    Py_buffer rows;
    int found = 0, is_twice = 0;
    if (!PyArg_ParseTuple(args, "y*:restore_orders", &rows))
        return NULL;
    if (rows.len % ORDER_SIZE)
        PyErr_Format(PyExc_ValueError, "%zd bytes are no whole number of orders", rows.len);
    const char *p = rows.buf;
    Py_ssize_t count = rows.len / ORDER_SIZE;
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++) {
        found = restore_order(state, p + i * ORDER_SIZE);
        is_twice |= found == 1;
        if (found == 2)
            PyErr_Format(PyExc_ValueError, "a state of the market has an order %llu that can't be",
                         (unsigned long long)get64(p + i * ORDER_SIZE));
        else if (found < 0)
            PyErr_NoMemory();
    }
    PyBuffer_Release(&rows);
    if (PyErr_Occurred())
        return NULL;
    if (is_twice)
        return PyErr_Format(PyExc_ValueError, "a state of the market has an order twice");
    Py_RETURN_NONE;
}

static PyObject *core_is_sound(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct state *state = &((Core *)self)->state;
    struct book **books = books_in_order(state);
    int sound = 1;
    if (!books)
        return PyErr_NoMemory();
    for (uint32_t i = 0; i < state->held; i++)
        sound &= !is_empty(books[i]) && -best_key(&books[i]->sides[0]) < best_key(&books[i]->sides[1]);
    free(books);
    return PyBool_FromLong(sound);
}

static PyObject *core_swap(PyObject *self, PyObject *other)
{
    if (!PyObject_TypeCheck(other, Py_TYPE(self)))
        return PyErr_Format(PyExc_TypeError, "two states of one type are swapped");
    Core *one = (Core *)self, *two = (Core *)other;
    struct state state = one->state;
    one->state = two->state;
    two->state = state;
    Py_RETURN_NONE;
}

/* Give the state up, and free about `rows` of its orders. Returns whether some are left. */
static PyObject *core_free_some(PyObject *self, PyObject *args)
{
    Core *core = (Core *)self;
    struct state *state = &core->state;
    Py_ssize_t rows;
    if (!PyArg_ParseTuple(args, "n:free_some", &rows))
        return NULL;
    if (!core->dying) {
        core->dying = state->chunks;
        core->dying_count = state->chunk_count;
        core->dying_orders = state->open;
        state->chunks = NULL;
        state->chunk_count = 0;
        state_clear(state);
    }
    Py_ssize_t chunks = rows < (Py_ssize_t)CHUNK ? 1 : rows / (Py_ssize_t)CHUNK;
    for (; chunks && core->dying_count; chunks--) {
        chunk_drop(core->dying[--core->dying_count]);
        core->dying_orders -= core->dying_orders < CHUNK ? core->dying_orders : CHUNK;
    }
    if (core->dying_count)
        Py_RETURN_TRUE;
    free(core->dying);
    core->dying = NULL;
    core->dying_orders = 0;
    Py_RETURN_FALSE;
}

/* ---- The invariants, for tests. ---- */

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            return #condition;                                                                                         \
    } while (0)

static const char *check_level(const struct state *state, uint32_t book_slot, int32_t key, uint32_t level_slot,
                               uint32_t *seen, const uint32_t *arrival)
{
    const struct level *level = level_at(state, level_slot);
    uint32_t ahead = NOWHERE, count = 0;
    REQUIRE(level->book == book_slot && level->count > 0);
    for (uint32_t slot = level->first; slot != NOWHERE; slot = place_at(state, slot)->behind) {
        const struct order *order = order_at(state, slot);
        const struct place *place = place_at(state, slot);
        REQUIRE(place->level == level_slot && place->ahead == ahead && place->node.key == order->id);
        REQUIRE(order->key == key && order->symbol == book_at(state, book_slot)->node.key);
        REQUIRE(order->quantity > 0 && order->quantity <= MAX_QUANTITY && order->id < state->next_order_id);
        REQUIRE(index_find(&state->by_id, &state->places, order->id) == slot);
        REQUIRE(arrival[slot] != NOWHERE && (ahead == NOWHERE || arrival[ahead] < arrival[slot]));
        ahead = slot;
        count++;
        ++*seen;
    }
    REQUIRE(level->last == ahead && level->count == count);
    return NULL;
}

static const char *check_side(const struct state *state, uint32_t book_slot, int is_ask, uint32_t *seen,
                              const uint32_t *arrival)
{
    const struct side *side = &book_at(state, book_slot)->sides[is_ask];
    int32_t before = NO_LEVEL;
    for (uint32_t b = 0; b < side->count; b++) {
        const struct block *block = side->blocks[b];
        REQUIRE(block->count > 0 && block->count <= block->room && block->room <= BLOCK_MAX);
        for (uint32_t e = 0; e < block->count; e++) {
            int32_t key = block->entries[e].key;
            REQUIRE(key < before && (is_ask ? key > 0 : key < 0) && key <= MAX_PRICE && key >= -MAX_PRICE);
            before = key;
            const char *broken = check_level(state, book_slot, key, block->entries[e].level, seen, arrival);
            if (broken)
                return broken;
        }
    }
    return NULL;
}

static const char *check_books(const struct state *state, const uint32_t *arrival)
{
    uint32_t seen = 0, held = 0, idle = 0, before = NOWHERE;
    for (uint32_t bucket = 0; bucket < state->by_symbol.buckets; bucket++) {
        uint32_t slot = *head_of(&state->by_symbol, bucket);
        for (; slot != NOWHERE; slot = book_at(state, slot)->node.link) {
            const struct book *book = book_at(state, slot);
            const char *broken = check_side(state, slot, 0, &seen, arrival);
            if (!broken)
                broken = check_side(state, slot, 1, &seen, arrival);
            if (broken)
                return broken;
            REQUIRE(is_symbol_code(book->node.key));
            REQUIRE(is_empty(book) == (int)book->is_idle);
            REQUIRE(-best_key(&book->sides[0]) < best_key(&book->sides[1]));
            held += !book->is_idle;
        }
    }
    for (uint32_t slot = state->idle_first; slot != NOWHERE; slot = book_at(state, slot)->idle_after, idle++) {
        const struct book *book = book_at(state, slot);
        REQUIRE(book->is_idle && book->idle_before == before && !book->session && !book->account);
        before = slot;
    }
    REQUIRE(state->idle_last == before && state->idle == idle && state->held == held);
    REQUIRE(state->by_symbol.count == held + idle);
    REQUIRE(seen == state->open && state->by_id.count == state->open);
    return NULL;
}

static const char *check_tallies(const struct tallies *tallies, const struct state *state, uint32_t most_orders,
                                 uint32_t most_symbols)
{
    uint64_t orders = 0, symbols = 0;
    for (uint32_t bucket = 0; bucket < tallies->index.buckets; bucket++) {
        uint32_t slot = *head_of(&tallies->index, bucket);
        for (; slot != NOWHERE; slot = node_at(&tallies->pool, slot)->link) {
            const struct tally *tally = (struct tally *)node_at(&tallies->pool, slot);
            REQUIRE(tally->orders || tally->symbols);
            REQUIRE(tally->orders <= most_orders && tally->symbols <= most_symbols);
            orders += tally->orders;
            symbols += tally->symbols;
        }
    }
    REQUIRE(orders == state->open && symbols == state->held);
    return NULL;
}

static const char *check_all(const Core *core, uint32_t *arrival)
{
    const struct state *state = &core->state;
    uint32_t before = NOWHERE, number = 0;
    memset(arrival, 0xff, ((size_t)state->chunk_count * CHUNK + 1) * sizeof *arrival);
    REQUIRE(state->chunk_count == state->places.count);
    for (uint32_t slot = state->first; slot != NOWHERE; slot = order_at(state, slot)->after) {
        REQUIRE(place_at(state, slot)->before == before && arrival[slot] == NOWHERE);
        arrival[slot] = number++;
        before = slot;
    }
    REQUIRE(state->last == before && number == state->open && number <= core->limits.open_orders);
    REQUIRE(state->held + state->idle <= core->limits.symbols);
    const struct limits *limits = &core->limits;
    const char *broken = check_books(state, arrival);
    if (!broken)
        broken = check_tallies(&state->accounts, state, limits->account_orders, limits->account_symbols);
    if (!broken)
        broken = check_tallies(&state->sessions, state, limits->session_orders, limits->session_symbols);
    return broken;
}

static PyObject *core_check_invariants(PyObject *self, PyObject *unused)
{
    (void)unused;
    const Core *core = (Core *)self;
    uint32_t *arrival = malloc(((size_t)core->state.chunk_count * CHUNK + 1) * sizeof *arrival);
    if (!arrival)
        return PyErr_NoMemory();
    const char *broken = check_all(core, arrival);
    free(arrival);
    if (broken)
        return PyErr_Format(PyExc_AssertionError, "the compiled exchange is broken: not %s", broken);
    Py_RETURN_NONE;
}

/* ---- The module. ---- */

static PyMethodDef core_methods[] = {
    {"execute_packed", (PyCFunction)(void (*)(void))core_execute_packed, METH_FASTCALL,
     "execute_packed(frame, offset, session) -> (reports, fills, rejected)"},
    {"freeze", core_freeze, METH_VARARGS, "freeze(rows) -> an iterator over the canonical bytes of the state as it is"},
    {"levels", core_levels, METH_VARARGS, "levels(symbol, levels) -> (bids, asks), each [(price, quantity, orders)]"},
    {"tape", core_tape, METH_VARARGS, "tape(symbol) -> the packed trades, oldest first"},
    {"codes", core_codes, METH_NOARGS, "codes() -> the symbols with orders by rising code, then the idle ones"},
    {"restore_header", core_restore_header, METH_VARARGS, "restore_header(next_order_id)"},
    {"restore_symbol", core_restore_symbol, METH_VARARGS, "restore_symbol(code, session, account, is_idle)"},
    {"restore_tape", core_restore_tape, METH_VARARGS, "restore_tape(code, trades)"},
    {"restore_orders", core_restore_orders, METH_VARARGS, "restore_orders(rows)"},
    {"is_sound", core_is_sound, METH_NOARGS, "is_sound() -> whether no held book is empty or crossed"},
    {"swap", core_swap, METH_O, "swap(other): exchange the states of two cores"},
    {"free_some", core_free_some, METH_VARARGS, "free_some(rows) -> whether some orders of the state are left"},
    {"check_invariants", core_check_invariants, METH_NOARGS, "Raise AssertionError unless the state is sound."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef core_getset[] = {
    {"open_orders", core_open_orders, NULL, "How many orders rest in the books.", NULL},
    {"shared_chunks", core_shared_chunks, NULL, "How many chunks of orders a frozen state holds too.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject CoreType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "zmqlab.market._matching.Core",
    .tp_doc = "Core(open_orders, account_orders, session_orders, symbols, account_symbols, session_symbols)",
    .tp_basicsize = sizeof(Core),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = core_new,
    .tp_init = core_init,
    .tp_dealloc = core_dealloc,
    .tp_methods = core_methods,
    .tp_getset = core_getset,
};

static int module_exec(PyObject *module)
{
    if (PyType_Ready(&FrozenType) < 0 || PyType_Ready(&CoreType) < 0)
        return -1;
    if (PyModule_AddObjectRef(module, "Core", (PyObject *)&CoreType) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "SOURCE_DIGEST", SOURCE_DIGEST);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "zmqlab.market._matching",
    .m_doc = "The exchange in C; see _matching.c, and zmqlab.market.compiled_exchange for its use.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__matching(void)
{
    return PyModuleDef_Init(&module_def);
}
