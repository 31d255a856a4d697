using System.Text.Json;
using System.Text.Json.Nodes;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>Two or three problems of our own in each published layout.</summary>
internal static class TinyBenchmarks
{
    /// <summary>File names as published, and their content.</summary>
    internal static readonly Dictionary<string, string> Files = new(StringComparer.Ordinal)
    {
        ["HumanEval.jsonl"] = Lines(
            new { task_id = "HumanEval/0", prompt = "def inc(x):\n    \"\"\"x + 1\"\"\"\n", entry_point = "inc", canonical_solution = "    return x + 1\n", test = "def check(f):\n    assert f(1) == 2\n" },
            new { task_id = "HumanEval/32", prompt = "def find_zero(xs):\n    \"\"\"a root\"\"\"\n", entry_point = "find_zero", canonical_solution = "    return -xs[0] / xs[1]\n", test = "def check(f):\n    assert abs(f([2, 1]) + 2) < 1e-4\n" }),
        ["HumanEvalPlus-v0.1.10.jsonl"] = Lines(
            new { task_id = "HumanEval/0", prompt = "def inc(x):\n    \"\"\"x + 1\"\"\"\n", entry_point = "inc", canonical_solution = "    return x + 1\n", base_input = (int[][])[[1], [2]], plus_input = (int[][])[[-1], [10]], atol = 0, contract = "" },
            new { task_id = "HumanEval/32", prompt = "def find_zero(xs):\n    \"\"\"a root\"\"\"\n", entry_point = "find_zero", canonical_solution = "    print('noise')\n    return -xs[0] / xs[1]\n", base_input = (int[][][])[[[2, 1]]], plus_input = (int[][][])[[[5, 3]]], atol = 1e-4, contract = "" },
            new { task_id = "HumanEval/2", prompt = "def half(x):\n    \"\"\"x / 2\"\"\"\n", entry_point = "half", canonical_solution = "    return x / 2\n", base_input = (int[][])[[1]], plus_input = (int[][])[[3]], atol = 0, contract = "" })
            .Replace("[-1]", "[-1], [Infinity]", StringComparison.Ordinal),
        ["HumanEvalPlus-prerelease.jsonl"] = Lines(
            new { task_id = "HumanEval/0", contract = "    assert x >= 0, \"invalid inputs\"\n", reference = "    return 1 + x\n", base_input = (int[][])[[1]], atol = 0 },
            new { task_id = "HumanEval/32", contract = "", reference = "    return -xs[0] / xs[1]\n", base_input = (int[][][])[[[2, 1]]], atol = 1e-4 }),
        ["HumanEvalPlusInputs-prerelease.jsonl"] = Lines(
            new { task_id = "HumanEval_0", inputs = (int[][])[[-5], [7]] }, new { task_id = "HumanEval_32", inputs = (int[][][])[[[3, 2]]] }, new { task_id = "HumanEval_99", inputs = (int[][])[[0]] }),
        ["mbpp.jsonl"] = Lines(
            new { text = "Write a function to add.", code = "def add(a, b):\r\n  return a + b", task_id = 11, test_setup_code = "", test_list = (string[])["assert add(1, 2) == 3"], challenge_test_list = (string[])["assert add(-1, 1) == 0"] },
            new { text = "Write a root.", code = "def root(a):\n  return a ** 0.5", task_id = 601, test_setup_code = "import math", test_list = (string[])["assert root(4) == math.sqrt(4)"], challenge_test_list = Array.Empty<string>() }),
        ["MbppPlus-v0.2.0.jsonl"] = Lines(
            new { task_id = "Mbpp/2", prompt = "\"\"\"\nshared elements\n\"\"\"\n", entry_point = "similar_elements", canonical_solution = "def similar_elements(a, b):\n  return tuple(sorted(set(a) & set(b)))\n", base_input = (int[][][])[[[3, 4], [4, 5]]], plus_input = (int[][][])[[[1, 2], [2, 1]]], atol = 0 },
            new { task_id = "Mbpp/124", prompt = "\"\"\"\nangle\n\"\"\"\n", entry_point = "angle", canonical_solution = "import cmath\ndef angle(a, b):\n  return cmath.phase(a + b)\n", base_input = (string[][])[["0", "1j"]], plus_input = (string[][])[["2", "2j"]], atol = 1e-4 },
            new { task_id = "Mbpp/164", prompt = "\"\"\"\nequivalent\n\"\"\"\n", entry_point = "are_equivalent", canonical_solution = "def are_equivalent(a, b):\n  return a == b\n", base_input = (int[][])[[1, 2]], plus_input = (int[][])[[2, 2]], atol = 0 },
            new { task_id = "Mbpp/558", prompt = "\"\"\"\ndistance\n\"\"\"\n", entry_point = "digit_distance_nums", canonical_solution = "def digit_distance_nums(a, b):\n  return sum(map(int, str(abs(a - b))))\n", base_input = (int[][])[[1, 2]], plus_input = (int[][])[[23, 56]], atol = 0 },
            new { task_id = "Mbpp/794", prompt = "\"\"\"\nmatch\n\"\"\"\n", entry_point = "text_starta_endb", canonical_solution = "import re\ndef text_starta_endb(t):\n  return re.search('a.*?b$', t)\n", base_input = (string[][])[["aab"]], plus_input = (string[][])[["xyz"]], atol = 0 }),
        ["humaneval_pro.json"] = JsonSerializer.Serialize<object[]>([
            new { id = 0, raw_problem = "def inc(x):\n    \"\"\"x + 1\"\"\"\n", raw_solution = "    return x + 1\n", new_problem = "# all\ndef inc_all(xs):\n", new_solution = "    return [inc(x) for x in xs]\n", test_code = "\nassert inc_all([1, 2]) == [2, 3]" }]),
        ["mbpp_pro.json"] = JsonSerializer.Serialize<object[]>([
            new { id = 0, raw_problem = "# add\ndef add(a, b):\n", raw_solution = "    return a + b\n", new_problem = "# sum\ndef total(xs):\n", new_solution = "    t = 0\n    for x in xs:\n        t = add(t, x)\n    return t\n", test_code = "assert total([1, 2, 3]) == 6" }]),
        ["bigcodebench_lite_pro.json"] = JsonSerializer.Serialize<object[]>([
            new { id = "BigCodeBench/7", raw_problem = "import no_such_package_of_z1\ndef f():\n", raw_solution = "    return 1\n", new_problem = "def g():\n", new_solution = "    return f()\n", test_code = "assert g() == 1" },
            new { id = "BigCodeBench/8", raw_problem = "import json\ndef f():\n", raw_solution = "    return json.loads('1')\n", new_problem = "def g():\n", new_solution = "    return f()\n", test_code = "assert g() == 1" }]),
        ["bigcodebench_hard.json"] = new JsonObject
        {
            ["BigCodeBench/1"] = BigCode("BigCodeBench/1", "import json\n", "    return json.dumps(x)\n", "self.assertEqual(task_func(1), '1')"),
            ["BigCodeBench/2"] = BigCode("BigCodeBench/2", "import no_such_package_of_z1\n", "    return x\n", "self.assertEqual(task_func(1), 1)"),
            ["BigCodeBench/3"] = BigCode("BigCodeBench/3", "", "    import no_such_package_of_z1_either\n    return x\n", "self.assertEqual(task_func(1), 1)"),
        }.ToJsonString(),
        ["livecodebench_problems.jsonl"] = Lines(
            new { question_id = "1_A", question_content = "square", contest_date = "2024-08-15T00:00:00", difficulty = "easy", starter_code = "", metadata = "{}", public_test_cases = """[{"input": "2\n", "output": "4\n", "testtype": "stdin"}]""", private_test_cases = PickledTextTests.Packed },
            new { question_id = "abc", question_content = "sum", contest_date = "2024-12-01T00:00:00", difficulty = "hard", starter_code = "class Solution:\n    def total(self, xs: List[int], k: int) -> int:\n        ", metadata = """{"func_name": "total"}""", public_test_cases = """[{"input": "[1, 2]\n3", "output": "[9, 1]", "testtype": "functional"}]""", private_test_cases = """[{"input": "[]\n1", "output": "[0, 1]", "testtype": "functional"}]""" }),
    };

    /// <summary>A folder that holds them all, or the one named.</summary>
    internal static string Folder(params string[] names)
    {
        var folder = Directory.CreateTempSubdirectory("z1-benchmarks-").FullName;
        foreach (var (name, content) in Files.Where(f => names.Length == 0 || names.Contains(f.Key)))
        {
            File.WriteAllText(Path.Combine(folder, name), content);
        }

        return folder;
    }

    internal static string Lines(params object[] rows) => string.Concat(rows.Select(r => JsonSerializer.Serialize(r) + "\n"));

    private static JsonObject BigCode(string id, string imports, string body, string assertion) => new()
    {
        ["task_id"] = id,
        ["complete_prompt"] = $"{imports}\ndef task_func(x):\n    \"\"\"does\"\"\"\n",
        ["instruct_prompt"] = "Do it.",
        ["code_prompt"] = $"{imports}def task_func(x):\n",
        ["canonical_solution"] = body,
        ["test"] = $"import unittest\nclass TestCases(unittest.TestCase):\n    def test_1(self):\n        {assertion}\n",
        ["entry_point"] = "task_func",
        ["libs"] = "[]",
    };
}
