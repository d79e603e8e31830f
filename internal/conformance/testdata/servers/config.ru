# The application of Puma, which takes $LOAD seconds to load.
sleep ENV["LOAD"].to_i
run ->(env) { [200, {}, ["hello\n"]] }
