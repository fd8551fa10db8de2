"""Datasets in object stores: a helper process does all network, and bytes arrive in files that both sides open.

remote_storage  a folder of an object store as a `Storage`; the ranges that are wanted, and where they are kept
shard_cache     on disk: a sparse file a shard, and a byte a page that says "present"
helper_process  the trainer's side of the helper: started on first use, found dead at once, started again
messages        what the two say to each other
helper          the helper itself: answers messages, opens stores; `remote_store` makes their requests
stores          stores by URL: the one file that imports obstore
credentials     where those come from that nobody gives; `hugging_face_hub` knows hf://
fetching        a request until it is answered; `limits` has its decisions, `request_errors` what failures mean
"""
