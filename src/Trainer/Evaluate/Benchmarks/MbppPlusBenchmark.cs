using System.Globalization;

namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// MBPP+: sanitized MBPP on many more inputs (v0.1.0: 399 tasks; v0.2.0: 378). JSON has no tuples, sets and complex numbers, so what the tasks take is
/// made from lists and strings by task; sixteen tasks have an equality of their own. Both tables are facts of evalplus.
/// </summary>
public sealed class MbppPlusBenchmark : EvalPlusBenchmark
{
    private static readonly (int[] Tasks, string Arguments)[] s_arguments =
    [
        ([2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809], "[tuple(a) for a in inp]"),
        ([63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780], "[[tuple(x) for x in a] for a in inp]"),
        ([75, 413, 444, 753], "[[tuple(x) for x in inp[0]], inp[1]]"),
        ([106, 750], "[inp[0], tuple(inp[1])]"),
        ([115], "[[set(x) if isinstance(x, list) and len(x) else {} for x in inp[0]]]"),
        ([124], "(float(inp[0]), complex(inp[1]))"),
        ([250, 405, 446, 617, 720, 763, 808], "[tuple(inp[0]), inp[1]]"),
        ([259, 401, 445], "[tuple(tuple(x) for x in a) for a in inp]"),
        ([278], "[tuple(tuple(x) if isinstance(x, list) else x for x in inp[0])]"),
        ([307], "[tuple(inp[0]), inp[1], inp[2]]"),
        ([722], "[{key: tuple(value) for key, value in inp[0].items()}, *inp[1:]]"),
        ([252], "[complex(inp[0])]"),
        ([580, 615, 791], "deep(inp)"),
    ];

    private static readonly HashSet<string> s_sets =
    [
        "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum", "intersection_array", "find_dissimilar", "Diff",
    ];

    private static readonly HashSet<string> s_presence = ["check_str", "text_match_three", "text_starta_endb"];

    /// <inheritdoc/>
    public override string Name => "mbpp+";

    /// <inheritdoc/>
    public override string Description => "sanitized MBPP with many more inputs; 378 tasks (399 in v0.1.0)";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } = [["MbppPlus-v*.jsonl.gz"], ["MbppPlus-v*.jsonl"]];

    private protected override BenchmarkTask TaskOf(BenchmarkRow row)
    {
        var (id, prompt, entryPoint) = (row.Text("task_id"), row.Text("prompt"), row.Identifier("entry_point"));
        if (!int.TryParse(id.AsSpan(id.LastIndexOf('/') + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            throw row.Error("task_id", "has no number; it must look like \"Mbpp/2\"");
        }

        var arguments = s_arguments.FirstOrDefault(a => a.Tasks.Contains(number)).Arguments ?? "inp";
        return TaskOf(
            row, id, prompt, entryPoint, prompt + row.Text("canonical_solution"), arguments, OracleOf(entryPoint),
            s_presence.Contains(entryPoint) ? "out is not None" : "out");
    }

    private static string OracleOf(string entryPoint) => entryPoint switch
    {
        "are_equivalent" => "        same = True",
        "sum_div" => "        same = same or out == 0",
        "surface_Area" => "        same = same or out == round(inp[0] ** 2 + 2 * inp[0] * ((inp[0] / 2) ** 2 + inp[1] ** 2) ** 0.5)",
        "digit_distance_nums" => """
                    width = max(len(str(n)) for n in inp)
                    same = same or out == sum(abs(int(a) - int(b)) for a, b in zip(*(str(n).zfill(width) for n in inp)))
            """,
        _ when s_sets.Contains(entryPoint) => "        same = set(out) == set(exp)",
        _ when s_presence.Contains(entryPoint) => "        same = out == exp if isinstance(out, bool) else exp == (out is not None)",
        _ => "",
    };
}
