using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Tokens;

/// <summary>Rendered texts against Jinja2 3.1 (the golden file, and results of small templates written beside them).</summary>
public class ChatTemplateTests
{
    [Fact]
    public void Renders_every_golden_conversation()
    {
        var folder = TokenData.Folder("qwen-tokenizer");
        var templates = new Dictionary<string, ChatTemplate>
        {
            ["base"] = ChatTemplate.Parse(File.ReadAllText(Path.Combine(folder, "chat_template.base.jinja")), "base"),
            ["instruct"] = ChatTemplate.Parse(File.ReadAllText(Path.Combine(folder, "chat_template.instruct.jinja")), "instruct"),
        };
        var lines = TokenData.Lines("golden-chat.jsonl").ToList();
        Assert.Equal(64, lines.Count);
        foreach (var line in lines)
        {
            var messages = line.GetProperty("messages");
            var template = templates[line.GetProperty("template").GetString()!];
            var (prompt, tools) = (line.GetProperty("add_generation_prompt").GetBoolean(), line.GetProperty("tools"));
            var rendered = template.Render(messages, prompt, tools);
            Assert.Equal(line.GetProperty("rendered").GetString(), rendered);
            Assert.Equal(TokenData.Ints(line.GetProperty("ids")), TokenData.Qwen2.Encode(rendered));
            if (!messages.EnumerateArray().Any(m => m.TryGetProperty("tool_calls", out _)))
            {
                var records = messages.EnumerateArray()
                    .Select(m => new ChatMessage(m.GetProperty("role").GetString()!, m.GetProperty("content").GetString()!)).ToList();
                Assert.Equal(rendered, template.Render(records, prompt, tools));
            }
        }
    }

    [Theory]
    [InlineData(null, "resaved-by-transformers/tokenizer_config.json", "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>a</think>\n\nB<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n")]
    [InlineData(null, "tokenizer_config.base.json", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>a</think>\n\nB<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n")]
    [InlineData(null, "qwen3/tokenizer_config.json", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n")]
    [InlineData(false, "qwen3/tokenizer_config.json", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")]
    [InlineData(true, "chat_template.qwq-32b.jinja", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n<think>\n")]
    [InlineData(null, "chat_template.qwq-32b.jinja", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n<think>\n</think>")]
    public void Loads_and_renders_the_other_templates(bool? thinking, string file, string expected)
    {
        var model = Directory.CreateTempSubdirectory("z1-template");
        try
        {
            var name = file.EndsWith(".jinja", StringComparison.Ordinal) ? "chat_template.jinja" : "tokenizer_config.json";
            File.Copy(Path.Combine(TokenData.Folder("qwen-tokenizer"), file), Path.Combine(model.FullName, name));
            var variables = new Dictionary<string, JsonElement>();
            if (thinking is { } value)
            {
                variables["enable_thinking"] = JsonElement.Parse(value ? "true" : "false");
            }

            ChatMessage[] messages = [new("user", "Hi"), new("assistant", "<think>a</think>\n\nB"), new("user", "More")];
            Assert.Equal(expected, ChatTemplate.Load(model.FullName).Render(messages, addGenerationPrompt: true, null, variables));
        }
        finally
        {
            model.Delete(recursive: true);
        }
    }

    /// <summary>jinja-golden.json: small templates over every construct, rendered by Jinja2 3.1 set up as transformers does.</summary>
    [Fact]
    public void Agrees_with_Jinja2_on_each_construct()
    {
        var file = Path.Combine(TokenData.Repository(), "tests", "Trainer", "Tokens", "jinja-golden.json");
        var golden = JsonElement.Parse(File.ReadAllText(file));
        var variables = golden.GetProperty("variables").EnumerateObject().ToDictionary(v => v.Name, v => v.Value);
        Assert.Equal(21, golden.GetProperty("cases").GetArrayLength());
        foreach (var line in golden.GetProperty("cases").EnumerateArray())
        {
            var template = line.GetProperty("template").GetString()!;
            Assert.Equal(line.GetProperty("rendered").GetString(), ChatTemplate.Parse(template, template).Render([], false, null, variables));
        }
    }

    [Fact]
    public void A_model_without_template_is_refused()
    {
        var model = Directory.CreateTempSubdirectory("z1-template");
        try
        {
            Assert.Contains("no chat template", Assert.Throws<InvalidInputException>(() => ChatTemplate.Load(model.FullName)).Message);
            var config = Path.Combine(model.FullName, "tokenizer_config.json");
            foreach (var (json, part) in ((string, string)[])[
                ("{}", "no chat template"), ("[]", "not a JSON object"), ("{\"a\":", "line 1"), ("{\"chat_template\":7}", "neither"),
                ("{\"chat_template\":[{\"name\":\"rag\",\"template\":\"x\"}]}", "neither"), ("{\"chat_template\":\"\\ud800\"}", "Unicode")])
            {
                File.WriteAllText(config, json);
                var message = Assert.Throws<InvalidInputException>(() => ChatTemplate.Load(model.FullName)).Message;
                Assert.Contains(part, message);
            }

            File.WriteAllText(config, """{"bos_token":{"content":"<s>"},"chat_template":[{"name":"rag","template":"x"},{"name":"default","template":"{{bos_token}}!"}]}""");
            Assert.Equal("<s>!", ChatTemplate.Load(model.FullName).Render([], false));
        }
        finally
        {
            model.Delete(recursive: true);
        }
    }

    /// <summary>Jinja2's newline_re is \r\n|\r|\n; other line separators of Unicode are text.</summary>
    [Fact]
    public void Only_carriage_returns_become_line_feeds() => Assert.Equal(
        "a\nb\nc\nd\u0085e\u2028f\u2029g\fh", ChatTemplate.Parse("a\r\nb\rc\nd\u0085e\u2028f\u2029g\fh\r\n", "x").Render([], addGenerationPrompt: false));

    [Fact]
    public void The_hash_is_of_the_source()
    {
        Assert.Equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", ChatTemplate.Parse("abc", "x").Sha256);
    }

    [Theory]
    [InlineData("{% include 'x' %}", 1, "tag 'include'")]
    [InlineData("\n\n{{ x|sort }}", 3, "filter 'sort'")]
    [InlineData("a\n{% if x is callable %}{% endif %}", 2, "test 'callable'")]
    [InlineData("{{ x.format(1) }}", 1, "method 'format'")]
    [InlineData("{{\nstrftime_now('%Y') }}", 2, "function 'strftime_now'")]
    [InlineData("{{ x.items }}", 1, "'.items'")]
    [InlineData("{{ 2 ** 3 }}", 1, "'**'")]
    [InlineData("{% for a in b recursive %}{% endfor %}", 1, "recursive")]
    [InlineData("{% if x %}", 1, "endif")]
    [InlineData("{% endif %}", 1, "closes nothing")]
    [InlineData("{% break %}", 1, "outside a loop")]
    [InlineData("{{ x", 1, "'}}'")]
    [InlineData("{{ 'x }}", 1, "closing")]
    [InlineData("{# x", 1, "'#}'")]
    [InlineData("{{ }}", 1, "not expected")]
    [InlineData("{{ a b }}", 1, "not expected")]
    [InlineData("{{ ? }}", 1, "'?'")]
    [InlineData("{{ 1_000 }}", 1, "number")]
    [InlineData("{{ 99999999999999999999 }}", 1, "64 bits")]
    [InlineData("{{ x|tojson(4) }}", 1, "arguments")]
    [InlineData("{{ x.replace('a') }}", 1, "arguments")]
    [InlineData("{% raw %}x", 1, "endraw")]
    public void What_is_outside_the_subset_is_refused_by_name_and_line(string source, int line, string part)
    {
        var message = Assert.Throws<InvalidInputException>(() => ChatTemplate.Parse(source, "t.jinja")).Message;
        Assert.StartsWith($"t.jinja, line {line}: ", message);
        Assert.Contains(part, message);
    }

    [Theory]
    [InlineData("{{ messages[0].role }}", "undefined")]
    [InlineData("\n{{ raise_exception('no user') }}", "line 2: the template refuses these messages: no user")]
    [InlineData("{{ 'a' + 1 }}", "cannot join")]
    [InlineData("{{ 1 // 0 }}", "zero")]
    [InlineData("{{ 'a' < 1 }}", "order")]
    [InlineData("{% set a.b = 1 %}", "namespace")]
    [InlineData("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too long")]
    [InlineData("{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "grows")]
    [InlineData("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deeply")]
    [InlineData("{{ nothing|tojson }}", "tojson")]
    [InlineData("{{ 9223372036854775807 + 1 }}", "64 bits")]
    public void Errors_while_rendering_are_one_sentence(string source, string part)
    {
        var template = ChatTemplate.Parse(source, "t.jinja");
        Assert.Contains(part, Assert.Throws<InvalidInputException>(() => template.Render([], false)).Message);
    }

    [Fact]
    public void Deep_nesting_is_refused_and_does_not_overflow()
    {
        foreach (var source in (string[])[
            "{{ " + new string('(', 100_000) + new string(')', 100_000) + " }}", "{{ " + new string('[', 9000) + new string(']', 9000) + " }}",
             "{{ a" + string.Concat(Enumerable.Repeat(".a", 100_000)) + " }}",
            "{{ " + string.Concat(Enumerable.Repeat("not ", 100_000)) + "a }}", "{{ " + string.Concat(Enumerable.Repeat("a + ", 100_000)) + "a }}",
            "{{ " + new string('-', 100_000).Replace("-", "- ") + "1 }}", string.Concat(Enumerable.Repeat("{% if a %}", 50_000)),
            "{{ a" + string.Concat(Enumerable.Repeat("|trim", 100_000)) + " }}"])
        {
            Assert.Contains("deep", Assert.Throws<InvalidInputException>(() => ChatTemplate.Parse(source, "t")).Message);
        }

        // many statements one after another are not deep
        var flat = string.Concat(Enumerable.Repeat("{% for m in a.b.c[0] %}{% endfor %}{% if a is defined and a.b %}{% endif %}", 500));
        ChatTemplate.Parse(flat, "t");
    }
}
