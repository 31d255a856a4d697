using System.CommandLine;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 generate --model DIR PROMPT…</summary>
internal static class GenerateCommand
{
    public static Command Create()
    {
        var model = new Option<string>("--model") { Description = "Hugging Face directory: config.json, safetensors, tokenizer.json", Required = true };
        var prompts = new Argument<string[]>("prompts") { Description = "one completion each; standard input where there is none", Arity = ArgumentArity.ZeroOrMore };
        var chat = new Option<bool>("--chat") { Description = "the prompt is a user's turn: the checkpoint's chat template is applied" };
        var alpaca = new Option<bool>("--alpaca") { Description = "the prompt is an instruction in the published run's text" };
        var tokens = new Option<int>("--max-new-tokens") { Description = "longest completion", DefaultValueFactory = _ => 512 };
        var stops = new Option<string[]>("--stop") { Description = "a text that ends a completion (repeatable)", DefaultValueFactory = _ => [] };
        PlanCommand.Within(tokens, 1, 1_000_000);
        var dtype = new Option<string>("--dtype") { Description = "bf16 or fp32", DefaultValueFactory = _ => "bf16" };
        dtype.AcceptOnlyFromAmong("bf16", "fp32");
        var json = new Option<bool>("--json") { Description = "an object with prompt, text, tokens and finish reason of each" };
        var device = Devices.Option();
        var command = new Command("generate", "Greedy completions with a KV cache.") { model, prompts, chat, alpaca, tokens, stops, dtype, device, json };
        command.SetAction(parsed =>
        {
            var directory = parsed.GetValue(model)!;
            var texts = parsed.GetValue(prompts) is { Length: > 0 } given ? given : [Console.In.ReadToEnd()];
            var (encoded, endTokens, tokenizer) = Encode(directory, texts, parsed.GetValue(chat), parsed.GetValue(alpaca));
            var options = new GenerateOptions(parsed.GetValue(tokens), endTokens, parsed.GetValue(stops)!);
            using var stream = Devices.Open(parsed.GetValue(device)!);
            var completions = parsed.GetValue(dtype) == "fp32"
                ? Generate<float>(stream, directory, encoded, options, tokenizer)
                : Generate<BFloat16>(stream, directory, encoded, options, tokenizer);
            Print(texts, completions, parsed.GetValue(json));
            return 0;
        });
        return command;
    }

    /// <summary>Loads a model and completes the prompts.</summary>
    public static Completion[] Generate<T>(ComputeStream stream, string directory, IReadOnlyList<int[]> prompts, GenerateOptions options, Tokenizer tokenizer)
        where T : unmanaged
    {
        const int MostSlots = 64;
        using var weights = HfWeights.Open<T>(directory, stream);
        var config = weights.Parameters.Config;
        var highest = prompts.Max(p => p.Append(0).Max());
        if (highest >= config.VocabSize)
        {
            throw new InvalidInputException($"{directory}: the tokenizer gives id {highest}, the model has {config.VocabSize} vocabulary rows: they do not belong together");
        }

        var capacity = prompts.Max(p => p.Length) + options.MaxNewTokens + 1;
        using var generator = new Generator<T>(stream, new Qwen2<T>(weights), tokenizer, Math.Min(MostSlots, prompts.Count), capacity);
        return generator.Generate(prompts, options);
    }

    private static (int[][] Prompts, IReadOnlyList<int> EndTokens, Tokenizer Tokenizer) Encode(string directory, string[] texts, bool chat, bool alpaca)
    {
        if (!chat && !alpaca)
        {
            var tokenizer = Tokenizer.Load(directory);
            return ([.. texts.Select(t => tokenizer.Encode(t))], Qwen2Config.LoadEosTokenIds(directory), tokenizer);
        }

        var codec = PromptCodec.Load(directory, chat ? PromptFormat.Chat : PromptFormat.Alpaca);
        return ([.. texts.Select(t => codec.Prompt(t))], [codec.EndToken], codec.Tokenizer);
    }

    private static void Print(string[] prompts, Completion[] completions, bool asJson)
    {
        if (!asJson)
        {
            foreach (var completion in completions)
            {
                Console.WriteLine(completion.Text);
            }

            return;
        }

        CliJson.Write(json =>
        {
            json.WriteStartArray("completions");
            for (var i = 0; i < prompts.Length; i++)
            {
                json.WriteStartObject();
                json.WriteString("prompt", prompts[i]);
                json.WriteString("text", completions[i].Text);
                json.WriteStartArray("tokens");
                Array.ForEach(completions[i].Tokens, json.WriteNumberValue);
                json.WriteEndArray();
                json.WriteString("finish", completions[i].Finish switch
                {
                    FinishReason.EndToken => "end_token",
                    FinishReason.StopString => "stop",
                    _ => "length",
                });
                json.WriteEndObject();
            }

            json.WriteEndArray();
        });
    }
}
