"""Retrieval and recall of wide variety: genres of text, kinds of facts and wordings, each split with its own."""
