run ->(env) { [200, {}, ["hello from #{$$}\n"]] }
