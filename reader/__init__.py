"""The reader: from the files of a dataset to samples and batches.

The way of a batch
==================

    DataLoader.__iter__                   loading/loader.py        the next epoch, from a position
     |
     |  order_of, window_plans            order/shuffle, ranks     which samples, when: a WindowPlan for each window
     |  (Combined.plan, drawn_plans       combined, order/mixing   the same for several datasets)
     v
    EpochRun.windowed                     loading/epoch_run.py     connects the stages below; each is bounded
     |
     |  WindowPrefetcher.start            loading/prefetch.py      loads one window ahead
     |   |  FetchPlan                     batches/fetch_plan.py    in place in the map, or read into memory?
     |   |  FetchPlan.load                  in FetchThreads        reads, checks and decodes pages (page_reads.py)
     |   '-> PageTable                    page_table.py            the pages of a window, by field
     |
     |  Stream.take, requests             loading/stream.py        cuts windows into slices, slices into BatchRequests;
     |                                                             each slice has a WindowLease until its batch is made
     |  (SeveralBatches                   loading/together.py      of many datasets: one request, cut into its batches)
     v
    Workers.submit                        workers/protocol.py      InlineWorkers, ThreadWorkers or ProcessWorkers
     |  WorkerPool, serve                 workers/pool, serve      requests and batches cross in slots of shared memory
     v
    BatchMaker.__call__                   batches/maker.py         the same batch in whichever thread or process
     |  PageTable.take -> PageColumn.take -> Pages.take            gathers with NumPy (format/page.py)
     |  Processing.columns, .samples      processing.py            decodes, transforms, maps
     |  collate                           columns.py
     v
    BatchResult -> EpochRun._deliver -> DataLoader._delivered -> the caller

With a sampler an IndexRequest takes the place of the windows: BatchMaker calls OpenDataset.take, as ShardDataset.take
does. It builds a PageTable of the blocks that it needs, so both ways gather alike.

order/ is pure: it opens no file and knows no time. batches/ decides how a batch is made, workers/ who makes it, and
loading/ when.

Coordinates
===========

    name        counts                              from 0 to           where
    ----------  ----------------------------------  ------------------  -------------------------------------------
    number      samples of a dataset                dataset.samples     ShardDataset.numbers, Blocks.first
    index       samples of a view                   len(view)           ds[index], WindowPlan.index, IndexRequest
    position    samples of an epoch, all ranks      len(view)           RankShare, WindowPlan.position, the state
    batch_row   samples of a batch                  len(batch)          BatchRequest.batch_rows
    row         samples of a block                  Index.samples       WindowPlan.row, PageTable.take
    block       blocks of a dataset                 Blocks.first        WindowPlan.blocks, WindowLayout.blocks
    local       blocks of a shard                   ShardEntry.blocks   OpenDataset.by_shard, OpenShard
    block_rank  blocks with samples of a view       len(selection)      Selection
    slot        blocks of a window or page table    len(plan.blocks)    WindowPlan.slot, PageTable.take
    draw        samples taken from one dataset      schedule.draws[k]   order/mixing: draw % samples is its position
                of a mixture                                            in pass draw // samples
    source      datasets of a loader                len(datasets)       Schedule.sources, WindowSlice.source
    lane        shares of a window or an epoch      order.lanes         position % lanes
    part        runs of samples, one for each lane  order.lanes         Lanes.of_part, Pieces.part
    piece       what a part has of a block          len(pieces.part)    Pieces.block_rank

`number`, `index`, `block`, `slot`, ... are int64 arrays (n,) where several are meant; `first`, `starts` and `shard` are
arrays (n + 1,) of beginnings that end with the total. Windows, shards and workers are counted too, and always with the
word: window.number, entry.number. Slots of a WorkerPool, unlike slots of a window, are pieces of shared memory.

`epoch_key` is key(seed, epoch), the seed of everything random in an epoch; sample k of a view draws from
key(index, after=epoch_key). A lease is the right to read from a window; see loading/prefetch.py.
"""
