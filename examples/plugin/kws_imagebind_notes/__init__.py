"""An example of a plug-in for KWS-ImageBind: an encoder, a data set and a task."""
