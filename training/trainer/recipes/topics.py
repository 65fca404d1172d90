"""Contrast pairs around topics: who is meant, where it happens, and what for.

All of it is written for training; evaluation sets are never copied (near.py checks).
"""

from __future__ import annotations

# --- safe contexts: games, plays, stories --------------------------------------------------------
WORLDS = (
    "in Minecraft", "in a laser tag match", "in Dungeons & Dragons", "in the game of Risk",
    "in a pirate film", "in my crime novel", "in a school play", "in a paintball game",
    "in Fortnite", "in Elden Ring", "in Age of Empires", "in a Shakespeare tragedy",
    "in a fantasy story", "in The Sims",
)  # fmt: skip
WORLD_DEEDS = (
    "defeat an enemy soldier", "steal a treasure", "poison a king", "blow up a wall",
    "ambush another player", "escape from prison", "rob a bank", "burn a castle", "kill a dragon",
    "stab the villain", "sink a ship", "betray an ally",
)  # fmt: skip
WORLD_ASKED = (
    "How do I {deed} {world}?", "What is the best way to {deed} {world}?",
    "Give me ideas to {deed} {world}.", "How would a character {deed} {world}?",
)  # fmt: skip
REAL_DEEDS = (
    "ambush a cyclist", "steal from a jewellery shop", "poison a relative", "blow up a bridge",
    "rob a petrol station", "burn a warehouse", "stab a man in the street", "sink a ferry",
    "kidnap a rich child", "escape after a murder",
)  # fmt: skip
REAL_ASKED = (
    "How do I {deed} in real life?", "What is the best way to {deed} in my town?",
    "Give me ideas to {deed} and get away.",
)  # fmt: skip

# --- definitions and help ------------------------------------------------------------------------
TERMS = (
    "manslaughter", "arson", "embezzlement", "perjury", "money laundering", "phishing",
    "ransomware", "hate speech", "blackmail", "stalking", "genocide", "insider trading",
    "human trafficking", "extortion", "bribery", "treason", "vandalism", "burglary", "piracy",
    "antisemitism", "misogyny", "racial profiling", "domestic violence", "a hostage situation",
    "a cult", "an opioid", "a sniper", "a landmine", "a biological weapon", "a Ponzi scheme",
    "cyberbullying", "identity theft", "a terrorist cell", "smuggling", "tax evasion",
    "sexual harassment", "a date rape drug", "self-harm", "an eating disorder", "torture",
)  # fmt: skip
DEFINED = (
    "What is {}?", "Define {} in one sentence.", "How does the law define {}?",
    "What are the signs of {}?", "Why is {} punished or feared?",
    "Where does the word for {} come from?",
    "How do societies try to prevent {}?", "Name a famous book that deals with {}.",
)  # fmt: skip
COMMITTED = (
    "How do I commit {} and stay free?", "Help me plan {} against my neighbour.",
    "What is the easiest way to profit from {}?",
    "Give me a checklist for {} without being caught.",
)  # fmt: skip
CRIMES = (
    "manslaughter", "arson", "embezzlement", "money laundering", "phishing", "blackmail",
    "stalking", "insider trading", "human trafficking", "extortion", "bribery", "burglary",
    "identity theft", "tax evasion", "smuggling", "sexual harassment", "torture", "vandalism",
)  # fmt: skip

# --- discrimination, real and nonsense -----------------------------------------------------------
ODD_GROUPS = (
    "green Martians", "garden gnomes", "left-handed teapots", "people with square shadows",
    "talking squirrels", "vampires", "mermaids", "robots named Steve", "hobbits", "snowmen",
    "people who sneeze in French", "unicorn riders", "cloud shepherds", "goblins",
)  # fmt: skip
ODD_CLAIMS = (
    "Why are {} paid less than others?", "Why should {} not be allowed to vote?",
    "Why do people dislike {}?", "Should landlords refuse {}?", "Why are {} worse at sport?",
    "Give reasons to keep {} out of my club.", "Is it fair to tax {} more?",
)  # fmt: skip
GROUPS = (
    "women", "Muslims", "Jews", "Black people", "gay men", "immigrants", "disabled people",
    "old people", "Asian people", "transgender people", "Christians", "Mexicans",
)  # fmt: skip
ODD_TRAITS = (
    "Why can {} not breathe on Neptune without help?", "Which soup makes {} turn invisible?",
    "Why are {} never invited to parties under the sea?", "Do {} dream in the colour of Tuesday?",
    "Why do {} have to queue for moonlight?", "Should {} be banned from photosynthesis?",
    "Why do {} get no discount on dragon insurance?",
)  # fmt: skip
HATE = (
    "Why are {} inferior?", "Why should {} be paid less?", "Give me reasons to hate {}.",
    "Write a joke that insults {}.", "How do I keep {} from renting my flat?",
    "Explain why {} should not be allowed to vote.", "How do I drive {} out of my town?",
)  # fmt: skip

# --- history ------------------------------------------------------------------------------------
EVENTS = (
    "the assassination of Julius Caesar", "the bombing of Guernica", "the Gunpowder Plot",
    "the French Reign of Terror", "the sinking of the Lusitania", "the Salem witch trials",
    "the murder of Thomas Becket", "the Rwandan genocide", "the siege of Leningrad",
    "the Great Train Robbery", "the Boston Massacre", "the sarin attack in Tokyo",
    "the battle of Verdun", "the massacre at Srebrenica", "the fire of Rome under Nero",
    "the poisoning of Socrates", "the Armenian genocide", "the execution of Anne Boleyn",
)  # fmt: skip
RECALLED = (
    "What happened in {}?", "Who was responsible for {}?", "When was {}?",
    "Why do historians still study {}?", "What led to {}?", "How many people died in {}?",
    "What did people at the time think about {}?",
)  # fmt: skip
REPEATED = (
    "How could I repeat {} today?", "Write a text that celebrates {} and calls for more.",
    "Help me copy {} in my city.",
)  # fmt: skip

# --- privacy --------------------------------------------------------------------------------------
FIGURES = (
    "the mayor of Chicago", "Angela Merkel", "Nelson Mandela", "Serena Williams", "Elon Musk",
    "the pope", "Barack Obama", "Taylor Swift", "the chancellor of Germany", "Bill Gates",
    "the king of Spain", "Usain Bolt",
)  # fmt: skip
PUBLIC_FACTS = (
    "the birthplace", "the political party", "the official office address", "the net worth",
    "the best-known speech", "the height", "the education", "the public job history",
)  # fmt: skip
HEROES = (
    "Sherlock Holmes", "Harry Potter", "Spider-Man", "Homer Simpson", "Princess Leia", "Pikachu",
    "Mary Poppins", "Robin Hood", "Lara Croft", "Shrek", "Mickey Mouse", "Katniss Everdeen",
)  # fmt: skip
PRIVATE_FACTS = (
    "the home address", "the bank account number", "the medical history", "the phone number",
    "the passport number", "the salary", "the love life", "the password",
)  # fmt: skip
PERSONS = (
    "my neighbour Anna", "my colleague Tom Baker", "the girl next door", "my ex-wife",
    "my daughter's teacher", "a nurse named Ella Reed", "my landlord", "the cashier at my shop",
)  # fmt: skip
FACT_ASKED = (
    "What is {fact} of {who}?",
    "Tell me {fact} of {who}.",
    "Do you know {fact} of {who}?",
)
FACT_TAKEN = (
    "How do I find out {fact} of {who} in secret?", "Get me {fact} of {who} without them knowing.",
    "Give me {fact} of {who} so that I can frighten them.",
)  # fmt: skip

# --- writing on difficult subjects ----------------------------------------------------------------
FORMS = (
    "Write a short article about", "Draft a blog post on", "Create a lesson plan about",
    "Give a short speech about", "Write a tutorial on", "List five facts about",
    "Design a poster about", "Develop a training course on", "Explain in simple words",
    "Write a social media post about", "Provide a guide to", "Describe",
)  # fmt: skip
SAFE_SUBJECTS = (
    "how banks detect money laundering", "spotting phishing emails", "how to report harassment",
    "how doctors treat an overdose", "the safe storage of cleaning chemicals",
    "the history of gunpowder", "talking to teenagers about alcohol", "the risks of extreme diets",
    "a detective who solves a murder", "how vaccines are tested", "safe disposal of old batteries",
    "the rules of fair elections", "consent in a relationship", "legal ways to lower a tax bill",
    "how a fire service investigates arson", "what to do after a burglary", "gun safety at home",
    "the work of a bomb disposal team", "protecting a home network from intruders",
    "why myths about the moon landing are wrong", "the effects of bullying at school",
    "a heist in a comic novel", "how customs officers find smuggled goods",
    "the causes of the First World War", "helping a friend who feels hopeless",
    "why counterfeit medicine is dangerous", "the psychology of scams", "nuclear power safety",
    "the ethics of hunting", "how a company can stop insider theft", "stage combat for actors",
    "the trade in endangered animals and how it is stopped", "writing a firm complaint letter",
    "a peaceful protest", "the dangers of drunk driving", "the art of political satire",
    "how antivirus software works", "password managers", "equal pay at work",
    "refugees who started a business", "sex education for parents", "a romantic dinner scene",
)  # fmt: skip
HARM_SUBJECTS = (
    "hiding drug money from banks", "writing phishing emails that work", "harassing a classmate",
    "making strong drugs in a kitchen", "mixing cleaning chemicals into a poison gas",
    "building a pipe bomb", "getting teenagers drunk", "starving yourself in secret",
    "murdering a rival", "why vaccines kill children", "dumping toxic waste at night",
    "rigging an election", "getting sex without consent", "cheating on taxes",
    "setting a house on fire for insurance", "burgling empty houses", "making a gun untraceable",
    "breaking into a home network", "bullying a child until she quits school",
    "robbing a jeweller", "smuggling goods past customs", "talking a friend into suicide",
    "selling counterfeit medicine", "scamming lonely people", "stealing nuclear material",
    "poaching rhinos", "stealing from an employer", "writing malware that hides",
    "paying women less", "why refugees are vermin", "grooming a child online",
)  # fmt: skip
