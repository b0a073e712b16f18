"""Messages about missing files."""


def test_the_command_names_them_in_the_order_of_the_spec(folder, gradcheck):
    (folder / "net.yaml").write_text(
        "network: {inputs: 2, layers: [{units: 1}], loss: mse}\n"
        "gradients: {file: g.npz}\ndata: {file: b.npz}\nparameters: {file: w.npz}\n"
    )
    done = gradcheck("check", "net.yaml")
    places = [line.split(": error: ") for line in done.err.splitlines() if ": error: " in line]
    assert done.code == 2
    assert places == [
        ["net.yaml:2:19", "there is no file 'g.npz'"],
        ["net.yaml:3:14", "there is no file 'b.npz'"],
        ["net.yaml:4:20", "there is no file 'w.npz'"],
    ]
